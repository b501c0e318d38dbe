"""Statistics of batch normalisation, renewed after training."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from components.benchmarks.detection.training import DetectorObjective
from components.training.distributed import SINGLE_PROCESS, Processes
from components.training.validation import Batch, to_device


def recompute_normalisation(
    objective: DetectorObjective, batches: Iterable[Batch], device: torch.device, processes: Processes
) -> None:
    """Replace the running statistics of batch normalisation by those of some training batches.

    The weights stay ("precise BN", arXiv 2105.07576, as in the paper's detectron2 configurations).
    """
    layers = [module for module in objective.modules() if isinstance(module, _BatchNorm)]
    if not layers:
        return
    objective.to(device).train()
    with torch.no_grad(), population_statistics(layers, processes):
        for batch in batches:
            objective(to_device(batch, device, torch.contiguous_format))


@contextmanager
def population_statistics(
    layers: Sequence[_BatchNorm], processes: Processes = SINGLE_PROCESS
) -> Iterator[None]:
    """Leave in ``layers`` the mean and variance of all that passes through them meanwhile, in all processes.

    As fvcore's ``update_bn_stats``, which detectron2 calls: every position of every batch counts alike, and
    the variance is that of all positions together, not the mean over batches of each one's own.
    """
    with ExitStack() as undone:
        populations = []
        for layer in layers:
            populations.append(_Population(layer))
            undone.callback(setattr, layer, "momentum", layer.momentum)
            layer.momentum = 1.0  # the running statistics become those of the batch
            undone.callback(layer.register_forward_hook(populations[-1].add).remove)
        yield
        for population in populations:
            population.store(processes)


class _Population:
    """Sums over the positions that one layer has seen; float64, as the variance is a small difference."""

    def __init__(self, layer: _BatchNorm) -> None:
        assert layer.running_mean is not None
        self.layer = layer
        self.count = torch.zeros((), dtype=torch.float64, device=layer.running_mean.device)
        self.mean = torch.zeros_like(layer.running_mean, dtype=torch.float64)
        self.square = self.mean.clone()

    def add(self, layer: Any, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
        """Add a batch; a forward hook."""
        count = inputs[0].numel() // inputs[0].shape[1]
        mean, variance = layer.running_mean.double(), layer.running_var.double()
        self.count += count
        self.mean += count * mean
        self.square += count * mean.square() + (count - 1) * variance  # torch divides by count - 1

    def store(self, processes: Processes) -> None:
        """Put mean and variance into the layer; it stays as it is if it has seen nothing."""
        for sums in (self.count, self.mean, self.square):
            processes.all_reduce_sum(sums)
        if not self.count:
            return
        mean = self.mean / self.count
        for held, value in (
            (self.layer.running_mean, mean),
            (self.layer.running_var, (self.square / self.count - mean.square()).clamp(min=0)),
        ):
            assert held is not None
            held.copy_(value)
