"""Mask R-CNN with FPN and Faster R-CNN C4 from torchvision's parts, around a pretrained ResNet.

Around a network of timm, which has no layer4 to cut regions for, Faster R-CNN has an FPN too.

Sizes and first weights follow the paper's detectron2 configurations: normalisation in backbone and FPN,
1,000 proposals after suppression, two fully connected layers of 1,024, four mask convolutions; for C4
the extra normalisation after res5 (MoCo, arXiv 1911.05722, appendix A). What torchvision's own parts do
otherwise stays: smooth L1 with beta 1/9 for boxes where detectron2 has plain L1.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

import torch
import torchvision
from timm.layers import freeze_batch_norm_2d  # type: ignore[attr-defined]  # documented, not in its __all__
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign, roi_align
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool
from torchvision.ops.poolers import LevelMapper

from components import params
from components.models.backbones import build_backbone
from components.models.timm_backbones import pyramid_levels, require_pyramid

NORMS: dict[str, Callable[[int], nn.Module]] = {"batch": nn.BatchNorm2d, "frozen": FrozenBatchNorm2d}
CANONICAL_SIZE, CANONICAL_STRIDE = 224, 16  # a region of this size is cut from the level of that stride
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Of the ResNet, in the order in which ``freeze_at`` freezes them.
PARTS = (("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",))
RATIOS = (0.5, 1.0, 2.0)  # height / width of the anchors
FPN_STRIDES = (4, 8, 16, 32)  # pixels of the image per position of layer1 to layer4
C4_STRIDE = 16
BOX_CELLS, MASK_CELLS = 7, 14  # per side, into which a region of the pyramid is cut
MASK_CONVOLUTIONS = 4
FPN_CHANNELS = 256
BOX_HEAD_WIDTH = 4  # times the channels of the pyramid


def mask_rcnn_fpn(
    architecture: str, backbone: Mapping[str, Tensor], num_classes: int, settings: params.Segmentation
) -> GeneralizedRCNN:
    """Build Mask R-CNN on all four stages through a feature pyramid.

    With ``norm: batch`` all normalisation is trained, FPN's included; ``frozen`` keeps the backbone's
    statistics and has none in the FPN (the paper's ImageNet baseline on LVIS).

    Args:
        architecture: name of the backbone.
        backbone: its weights by the library's names, without a classifier.
        num_classes: without the background.
        settings: sizes of images, anchors, heads and outputs.
    """
    channels = settings.head_channels
    model = MaskRCNN(
        _fpn(architecture, backbone, channels, settings),
        **_fpn_boxes(channels, num_classes, settings),
        mask_roi_pool=AlignedRegions(FPN_STRIDES, MASK_CELLS),
        mask_head=MaskRCNNHeads(channels, (channels,) * MASK_CONVOLUTIONS, 1),
        mask_predictor=MaskRCNNPredictor(channels, channels, num_classes + 1),
        **_shared(settings),
    )
    draw_as_detectron2(model)
    return model


def faster_rcnn_c4(
    architecture: str, backbone: Mapping[str, Tensor], num_classes: int, settings: params.VocDetection
) -> GeneralizedRCNN:
    """Build Faster R-CNN whose regions come from layer3 and pass through layer4; arguments as above.

    With a network of timm they come from a feature pyramid, as those of Mask R-CNN.
    """
    if params.is_timm(architecture):
        model = FasterRCNN(
            _fpn(architecture, backbone, FPN_CHANNELS, settings),
            **_fpn_boxes(FPN_CHANNELS, num_classes, settings),
            **_shared(settings),
        )
        draw_as_detectron2(model)
        return model
    cnn = _resnet(architecture, backbone, settings)
    res5 = cnn.get_submodule("layer4")
    width = out_channels(res5)
    model = FasterRCNN(
        C4Trunk(cnn),
        rpn_anchor_generator=AnchorGenerator((tuple(settings.anchor_sizes),), (RATIOS,)),
        rpn_pre_nms_top_n_train=12000,
        rpn_pre_nms_top_n_test=6000,
        box_roi_pool=AlignedRegions((C4_STRIDE,), settings.region_cells),
        box_head=Res5Head(res5, NORMS[settings.norm](width), width),
        box_predictor=FastRCNNPredictor(width, num_classes + 1),
        **_shared(settings),
    )
    draw_as_detectron2(model)
    return model


def set_image_sizes(model: GeneralizedRCNN, shorter_sides: Sequence[int]) -> None:
    """Have images resized to one of these from now on: by chance in training, to the last in eval mode."""
    model.transform.min_size = tuple(shorter_sides)


def _shared(settings: params.Detection) -> dict[str, object]:
    return {
        "min_size": list(settings.train_sizes),
        "max_size": settings.max_size,
        "image_mean": IMAGENET_MEAN,
        "image_std": IMAGENET_STD,
        "rpn_post_nms_top_n_train": settings.train_proposals,
        "rpn_post_nms_top_n_test": settings.test_proposals,
        "rpn_batch_size_per_image": settings.anchors_per_image,
        "box_batch_size_per_image": settings.rois_per_image,
        "box_detections_per_img": settings.detections_per_image,
        "box_score_thresh": settings.score_threshold,
    }


def _fpn(
    architecture: str, backbone: Mapping[str, Tensor], channels: int, settings: params.Detection
) -> nn.Module:
    """Build the feature pyramid on the backbone."""
    if params.is_timm(architecture):
        return TimmFpn(architecture, backbone, channels, settings)
    cnn = _resnet(architecture, backbone, settings)
    return BackboneWithFPN(
        cnn,
        {f"layer{stage}": str(stage - 1) for stage in (1, 2, 3, 4)},
        [out_channels(cnn.get_submodule(f"layer{stage}")) for stage in (1, 2, 3, 4)],
        channels,
        norm_layer=nn.BatchNorm2d if settings.norm == "batch" else None,
    )


def _fpn_boxes(channels: int, num_classes: int, settings: params.Detection) -> dict[str, nn.Module]:
    """Return the parts that find boxes on a feature pyramid."""
    width = BOX_HEAD_WIDTH * channels
    return {
        "rpn_anchor_generator": AnchorGenerator(
            tuple((size,) for size in settings.anchor_sizes), (RATIOS,) * len(settings.anchor_sizes)
        ),
        "box_roi_pool": AlignedRegions(FPN_STRIDES, BOX_CELLS),
        "box_head": TwoMLPHead(channels * BOX_CELLS**2, width),
        "box_predictor": FastRCNNPredictor(width, num_classes + 1),
    }


def _resnet(architecture: str, backbone: Mapping[str, Tensor], settings: params.Detection) -> nn.Module:
    """Build the ResNet with its weights, trainable but for the parts that are frozen."""
    cnn = torchvision.models.get_model(architecture, weights=None, norm_layer=NORMS[settings.norm])
    cnn.fc = nn.Identity()
    cnn.load_state_dict(dict(backbone))
    for name in [name for names in PARTS[: settings.freeze_at] for name in names]:
        cnn.set_submodule(name, _frozen(cnn.get_submodule(name)))
    return cnn


def _frozen(module: nn.Module) -> nn.Module:
    """Return ``module`` with fixed weights and statistics of normalisation, as detectron2 freezes."""
    module.requires_grad_(False)
    for name, child in module.named_children():
        setattr(module, name, _frozen(child))
    if not isinstance(module, nn.BatchNorm2d):
        return module
    fixed = FrozenBatchNorm2d(module.num_features, module.eps)
    fixed.load_state_dict(module.state_dict())
    return fixed


class AlignedRegions(MultiScaleRoIAlign):
    """RoIAlign without torchvision's shift by half a position ("aligned", as in detectron2).

    Args:
        strides: pixels of the image per position of each level, powers of two that double.
        cells: per side, into which each region is cut.
    """

    def __init__(self, strides: Sequence[int], cells: int) -> None:
        super().__init__([str(level) for level in range(len(strides))], cells, sampling_ratio=0)
        self.strides = tuple(strides)
        levels = [stride.bit_length() - 1 for stride in strides]
        canonical = CANONICAL_STRIDE.bit_length() - 1
        self.level_of = LevelMapper(levels[0], levels[-1], CANONICAL_SIZE, canonical)

    def forward(self, x: Mapping[str, Tensor], boxes: list[Tensor], image_shapes: object) -> Tensor:
        """Cut named maps ``(batch, channels, height, width)`` into ``(boxes, channels, cells, cells)``."""
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
    """Return the channels that a ResNet stage puts out."""
    convolutions = [module for module in stage.modules() if isinstance(module, nn.Conv2d)]
    return convolutions[-1].out_channels


class TimmFpn(nn.Module):
    """The last feature map of each stride from 4 to 32 through a feature pyramid, as of a ResNet.

    Shape:
        images ``(batch, 3, height, width)``, both multiples of 32 -> five maps ``(batch, channels, ...)`` of
        the strides 4 to 64
    """

    def __init__(
        self,
        architecture: str,
        weights: Mapping[str, Tensor],
        channels: int,
        settings: params.Detection,
    ) -> None:
        """Build the network and its pyramid.

        Args:
            architecture: name of the network, ``timm/...``.
            weights: by timm's names.
            channels: of the pyramid.
            settings: of which ``norm`` is that of the pyramid, and ``frozen`` keeps the statistics of the
                network's own batch normalisation; ``freeze_at`` is 0, or 5 to train nothing of the network.

        Raises:
            InputError: if the network lacks one of these maps.
        """
        super().__init__()
        require_pyramid(architecture)
        with torch.random.fork_rng(devices=[]):
            self.body = build_backbone(architecture).cnn
        self.body.load_state_dict(dict(weights))
        levels = pyramid_levels(self.body)
        assert levels is not None
        self.indices = [index for index, _ in levels]
        if settings.freeze_at:
            self.body.requires_grad_(False)
        if settings.freeze_at or settings.norm == "frozen":
            freeze_batch_norm_2d(self.body)
        norm = nn.BatchNorm2d if settings.norm == "batch" else None
        self.fpn = FeaturePyramidNetwork(
            [size for _, size in levels], channels, extra_blocks=LastLevelMaxPool(), norm_layer=norm
        )
        self.out_channels = channels

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """Return the maps by name, ``0`` to ``3`` and ``pool``, the finest first."""
        maps = self.body.forward_intermediates(
            images, indices=self.indices, intermediates_only=True, output_fmt="NCHW"
        )
        pyramid: OrderedDict[str, Tensor] = self.fpn(
            OrderedDict((str(level), features) for level, features in enumerate(maps))
        )
        return pyramid
