"""Mask R-CNN with FPN and Faster R-CNN C4 from torchvision's parts, around a pretrained ResNet.

Sizes follow the paper's detectron2 configurations: normalisation in backbone and FPN, 1,000 proposals
after suppression, two fully connected layers of 1,024, four mask convolutions; for C4 the extra
normalisation after res5 (MoCo, arXiv 1911.05722, appendix A). What torchvision's own parts do
otherwise stays: smooth L1 with beta 1/9 in the RPN where detectron2 has plain L1, for one.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torchvision
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RATIOS = (0.5, 1.0, 2.0)  # height / width of the anchors
FPN_CHANNELS = 256
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "frozen": FrozenBatchNorm2d,
}


@dataclass(frozen=True, slots=True)
class DetectorSizes:
    """What differs between datasets; lengths in pixels.

    Attributes:
        num_classes: without the background.
        train_sizes: shorter sides, of which each training image gets one by chance.
        test_size: shorter side at test.
        max_size: of the longer side.
        anchor_sizes: five, smallest first.
        rois_per_image: proposals trained on.
        test_proposals: regions looked at in a test image.
        detections_per_image: kept at test.
        score_threshold: of detections kept at test.
    """

    num_classes: int
    train_sizes: tuple[int, ...]
    test_size: int
    max_size: int
    anchor_sizes: tuple[int, ...]
    rois_per_image: int
    test_proposals: int
    detections_per_image: int
    score_threshold: float


def mask_rcnn_fpn(
    architecture: str, backbone: Mapping[str, Tensor], sizes: DetectorSizes, norm: str = "batch"
) -> nn.Module:
    """Mask R-CNN on all four stages through a feature pyramid.

    Args:
        architecture: torchvision's name of the ResNet.
        backbone: its weights by torchvision's names, without ``fc``.
        sizes: of images, anchors and outputs.
        norm: ``batch`` trains all normalisation, FPN's included; ``frozen`` keeps the backbone's
            statistics and has none in the FPN (the paper's ImageNet baseline on LVIS).
    """
    cnn = _resnet(architecture, backbone, norm)
    channels = [_out_channels(cnn.get_submodule(f"layer{stage}")) for stage in (1, 2, 3, 4)]
    trunk = BackboneWithFPN(
        cnn,
        {f"layer{stage}": str(stage - 1) for stage in (1, 2, 3, 4)},
        channels,
        FPN_CHANNELS,
        norm_layer=nn.BatchNorm2d if norm == "batch" else None,
    )
    anchors = AnchorGenerator(tuple((size,) for size in sizes.anchor_sizes), (RATIOS,) * 5)
    return MaskRCNN(
        trunk,
        sizes.num_classes + 1,
        rpn_anchor_generator=anchors,
        rpn_post_nms_top_n_train=1000,
        **_shared(sizes),
    )


def faster_rcnn_c4(
    architecture: str, backbone: Mapping[str, Tensor], sizes: DetectorSizes, norm: str = "batch"
) -> nn.Module:
    """Faster R-CNN whose regions come from layer3 and pass through layer4; arguments as above."""
    cnn = _resnet(architecture, backbone, norm)
    res5 = cnn.get_submodule("layer4")
    out_channels = _out_channels(res5)
    return FasterRCNN(
        _C4Trunk(cnn),
        rpn_anchor_generator=AnchorGenerator((sizes.anchor_sizes,), (RATIOS,)),
        rpn_pre_nms_top_n_train=12000,
        rpn_pre_nms_top_n_test=6000,
        box_roi_pool=MultiScaleRoIAlign(["0"], output_size=14, sampling_ratio=0),
        box_head=_Res5Head(res5, NORMS[norm](out_channels), out_channels),
        box_predictor=FastRCNNPredictor(out_channels, sizes.num_classes + 1),
        **_shared(sizes),
    )


def _shared(sizes: DetectorSizes) -> dict[str, object]:
    return {
        "min_size": list(sizes.train_sizes),
        "max_size": sizes.max_size,
        "image_mean": IMAGENET_MEAN,
        "image_std": IMAGENET_STD,
        "rpn_post_nms_top_n_test": sizes.test_proposals,
        "box_batch_size_per_image": sizes.rois_per_image,
        "box_detections_per_img": sizes.detections_per_image,
        "box_score_thresh": sizes.score_threshold,
    }


def _resnet(architecture: str, backbone: Mapping[str, Tensor], norm: str) -> nn.Module:
    """The ResNet with its weights, all of it trainable."""
    cnn = torchvision.models.get_model(architecture, weights=None, norm_layer=NORMS[norm])
    cnn.fc = nn.Identity()
    cnn.load_state_dict(dict(backbone))
    return cnn


def _out_channels(stage: nn.Module) -> int:
    """Channels that a ResNet stage puts out."""
    convolutions = [module for module in stage.modules() if isinstance(module, nn.Conv2d)]
    return convolutions[-1].out_channels


class _C4Trunk(nn.Module):
    """Stem to layer3: ``(batch, 3, height, width)`` -> one map of a sixteenth of the height and width."""

    def __init__(self, cnn: nn.Module) -> None:
        super().__init__()
        names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3")
        self.body = nn.Sequential(OrderedDict((name, cnn.get_submodule(name)) for name in names))
        self.out_channels = _out_channels(self.body)

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        return OrderedDict([("0", self.body(images))])


class _Res5Head(nn.Module):
    """layer4, its extra normalisation and the mean over positions.

    Shape:
        regions ``(regions, channels, 14, 14)`` -> ``(regions, out_channels)``
    """

    def __init__(self, res5: nn.Module, norm: nn.Module, out_channels: int) -> None:
        super().__init__()
        self.res5 = res5
        self.norm = norm
        self.out_channels = out_channels

    def forward(self, regions: Tensor) -> Tensor:
        return self.norm(self.res5(regions)).mean(dim=(2, 3))


def set_image_sizes(model: nn.Module, shorter_sides: Sequence[int]) -> None:
    """From now on images are resized to one of these: by chance in training, to the last in eval mode."""
    model.get_submodule("transform").min_size = tuple(shorter_sides)  # type: ignore[assignment]
