"""Parts made as detectron2's, and chance that belongs to images."""

import torch
from torch import nn

from components.benchmarks.detection.sampling import Draws, _Sampler
from components.benchmarks.detection.torchvision_models import AlignedRegions
from components.benchmarks.detection.training import _decayed_and_not


def test_a_region_is_cut_where_it_lies() -> None:
    columns = torch.arange(16.0).expand(1, 1, 16, 16) * 4 + 2  # each position holds its centre in pixels
    boxes = [torch.tensor([[16.0, 16.0, 48.0, 48.0]])]
    cut = AlignedRegions((4, 8), 2)({"0": columns, "1": columns}, boxes, None)
    assert cut.shape == (1, 1, 2, 2)
    torch.testing.assert_close(cut[0, 0, 0], torch.tensor([24.0, 40.0]))  # the centres of the two halves


def test_regions_come_from_the_level_of_their_size() -> None:
    maps = {str(level): torch.full((1, 1, 128 >> level, 128 >> level), float(level)) for level in range(4)}
    sides = [20.0, 112.0, 224.0, 500.0, 20.0]
    boxes = [torch.tensor([[0.0, 0.0, side, side] for side in sides])]
    cut = AlignedRegions((4, 8, 16, 32), 7)(maps, boxes, None)
    assert cut.shape == (5, 1, 7, 7)
    assert cut.mean(dim=(1, 2, 3)).round().tolist() == [0, 1, 2, 3, 0]


def test_an_image_draws_the_same_whoever_its_neighbours_are() -> None:
    labels = [torch.randint(-1, 2, (200,), generator=torch.Generator().manual_seed(i)) for i in range(4)]

    def choose(chosen: list[int]) -> list[tuple[list[int], list[int]]]:
        draws = Draws(0)
        draws.begin(chosen, torch.device("cpu"))
        positives, negatives = _Sampler(draws, 16, 0.25, is_rpn=False)([labels[i] for i in chosen])
        assert int(draws.objects) == 4 * len(chosen)
        assert int(draws.regions) == 16 * len(chosen)
        return [
            (torch.where(one)[0].tolist(), torch.where(other)[0].tolist())
            for one, other in zip(positives, negatives, strict=True)
        ]

    together = choose([0, 1, 2, 3])
    assert choose([0, 2]) + choose([1, 3]) == [together[i] for i in (0, 2, 1, 3)]
    assert all((labels[0][one] == 1) for one in together[0][0])
    assert all((labels[0][one] == 0) for one in together[0][1])
    assert together[0] != together[1]


def test_where_there_are_few_all_are_taken() -> None:
    draws = Draws(0)
    draws.begin([0], torch.device("cpu"))
    positives, negatives = _Sampler(draws, 8, 0.5, is_rpn=True)([torch.tensor([1, 0, 0, -1])])
    assert positives[0].tolist() == [1, 0, 0, 0]
    assert negatives[0].tolist() == [0, 1, 1, 0]
    assert int(draws.anchors) == 3


def test_normalisation_does_not_decay() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    decayed, kept = _decayed_and_not(model, 0.1)
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.1, 0.0)
    assert [len(group["params"]) for group in (decayed, kept)] == [2, 2]
    assert kept["params"][0] is model[1].weight
