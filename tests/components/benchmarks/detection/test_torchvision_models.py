"""Parts made as detectron2's."""

import torch

from components.benchmarks.detection.torchvision_models import AlignedRegions


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
