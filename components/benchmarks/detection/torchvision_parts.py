"""Parts of torchvision's detectors that are made as detectron2's are."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign, roi_align
from torchvision.ops.poolers import LevelMapper

NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "frozen": FrozenBatchNorm2d,
}
CANONICAL_SIZE, CANONICAL_STRIDE = 224, 16  # a region of this size is cut from the level of that stride


class AlignedRegions(MultiScaleRoIAlign):
    """RoIAlign without torchvision's shift by half a position ("aligned", as in detectron2).

    Args:
        strides: pixels of the image to a position of each level, powers of two that double.
        cells: a side, into which each region is cut.
    """

    def __init__(self, strides: Sequence[int], cells: int) -> None:
        super().__init__([str(level) for level in range(len(strides))], cells, sampling_ratio=0)
        self.strides = tuple(strides)
        levels = [stride.bit_length() - 1 for stride in strides]
        canonical = CANONICAL_STRIDE.bit_length() - 1
        self.level_of = LevelMapper(levels[0], levels[-1], CANONICAL_SIZE, canonical)

    def forward(self, x: Mapping[str, Tensor], boxes: list[Tensor], image_shapes: object) -> Tensor:
        """Maps ``(batch, channels, height, width)`` by name -> ``(boxes, channels, cells, cells)``."""
        maps = [x[name] for name in self.featmap_names]
        levels = self.level_of(boxes)
        images = torch.repeat_interleave(
            torch.arange(len(boxes), device=levels.device),
            torch.tensor([len(of_image) for of_image in boxes], device=levels.device),
        )
        rois = torch.cat([images[:, None].to(boxes[0].dtype), torch.cat(boxes)], dim=1)
        regions = maps[0].new_zeros((len(rois), maps[0].shape[1], *self.output_size))
        for level, (level_map, stride) in enumerate(zip(maps, self.strides, strict=True)):
            chosen = torch.where(levels == level)[0]
            cut = roi_align(level_map, rois[chosen], self.output_size, 1 / stride, aligned=True)
            regions[chosen] = cut.to(regions.dtype)
        return regions


class C4Trunk(nn.Module):
    """Stem to layer3: ``(batch, 3, height, width)`` -> one map of a sixteenth of the height and width."""

    def __init__(self, cnn: nn.Module) -> None:
        super().__init__()
        names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3")
        self.body = nn.Sequential(OrderedDict((name, cnn.get_submodule(name)) for name in names))
        self.out_channels = out_channels(self.body)

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        return OrderedDict([("0", self.body(images))])


class Res5Head(nn.Module):
    """layer4, its extra normalisation and the mean over positions.

    Shape:
        regions ``(regions, channels, cells, cells)`` -> ``(regions, out_channels)``
    """

    def __init__(self, res5: nn.Module, norm: nn.Module, out_channels: int) -> None:
        super().__init__()
        self.res5 = res5
        self.norm = norm
        self.out_channels = out_channels

    def forward(self, regions: Tensor) -> Tensor:
        return self.norm(self.res5(regions)).mean(dim=(2, 3))


def draw_as_detectron2(model: nn.Module) -> None:
    """Draw the first weights of the box and mask heads from detectron2's distributions."""
    for module in model.modules():
        if isinstance(module, TwoMLPHead):
            for layer in (module.fc6, module.fc7):
                nn.init.kaiming_uniform_(layer.weight, a=1)
                nn.init.zeros_(layer.bias)
        elif isinstance(module, FastRCNNPredictor):
            for layer, deviation in ((module.cls_score, 0.01), (module.bbox_pred, 0.001)):
                nn.init.normal_(layer.weight, std=deviation)
                nn.init.zeros_(layer.bias)
    for name, parameter in model.named_parameters():
        if name.endswith("mask_fcn_logits.weight"):
            nn.init.normal_(parameter, std=0.001)


def out_channels(stage: nn.Module) -> int:
    """Channels that a ResNet stage puts out."""
    convolutions = [module for module in stage.modules() if isinstance(module, nn.Conv2d)]
    return convolutions[-1].out_channels
