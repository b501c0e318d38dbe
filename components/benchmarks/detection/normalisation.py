"""Statistics of batch normalisation, renewed after training."""

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from components.benchmarks.detection.batches import part_batches, part_of, to_device
from components.benchmarks.detection.samples import TrainSamples, Visits
from components.benchmarks.detection.sampling import Draws
from components.training.distributed import Processes


def recompute_normalisation(
    model: nn.Module,
    draws: Draws,
    samples: TrainSamples,
    visits: Visits,
    *,
    num_batches: int,
    device: torch.device,
    num_workers: int,
    processes: Processes,
) -> None:
    """Replace the running statistics of batch normalisation by those of ``num_batches`` training batches.

    The weights stay ("precise BN", arXiv 2105.07576, as in the paper's detectron2 configurations).
    """
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    if not layers or num_batches == 0:
        return
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the plain mean over batches
    model.to(device).train()
    with torch.no_grad():
        for iteration, batch in enumerate(
            part_batches(samples, visits, 0, num_batches, num_workers, processes)
        ):
            draws.begin(visits.numbers(iteration)[part_of(processes)], device)
            model(*to_device(batch, device))
        for layer in layers:
            for statistics in (layer.running_mean, layer.running_var):
                assert statistics is not None
                processes.add_up(statistics).div_(processes.count)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
