"""Statistics of batch normalisation over many batches."""

import torch
from torch import nn

from components.benchmarks.detection.torchvision_engine import population_statistics


def channel(*values: float) -> torch.Tensor:
    """One image of one channel."""
    return torch.tensor(values, dtype=torch.float32).reshape(1, 1, 1, -1)


def test_batches_count_by_their_positions() -> None:
    layer = nn.BatchNorm2d(1, momentum=0.3).train()
    layer.running_mean.fill_(100)
    with torch.no_grad(), population_statistics([layer]):
        layer(channel(1, 3))  # mean 2, variance 2 over n - 1
        layer(channel(4, 4, 10, 6))  # mean 6, variance 8
    # All six: mean 28 / 6, mean of squares 178 / 6. The means over batches would be 4 and 5.
    torch.testing.assert_close(layer.running_mean, torch.tensor([28 / 6]))
    torch.testing.assert_close(layer.running_var, torch.tensor([178 / 6 - (28 / 6) ** 2]))
    assert layer.momentum == 0.3
    layer(channel(0, 0))
    torch.testing.assert_close(layer.running_mean, torch.tensor([0.7 * 28 / 6]))


def test_it_is_the_variance_of_all_batches_together() -> None:
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(3, 5, 4, size, generator=generator) * size + size for size in (2, 7, 9)]
    layer, unused = nn.BatchNorm2d(5).train(), nn.BatchNorm2d(5).train()
    with torch.no_grad(), population_statistics([layer, unused]):
        for batch in batches:
            layer(batch)
    every = torch.cat([batch.transpose(0, 1).flatten(1) for batch in batches], dim=1)
    torch.testing.assert_close(layer.running_mean, every.mean(dim=1))
    torch.testing.assert_close(layer.running_var, every.var(dim=1, correction=0))
    assert unused.running_var.tolist() == [1.0] * 5
