"""Mask R-CNN with FPN and Faster R-CNN C4 from torchvision's parts, around a pretrained ResNet.

Sizes and first weights follow the paper's detectron2 configurations: normalisation in backbone and FPN,
1,000 proposals after suppression, two fully connected layers of 1,024, four mask convolutions; for C4
the extra normalisation after res5 (MoCo, arXiv 1911.05722, appendix A). What torchvision's own parts do
otherwise stays: smooth L1 with beta 1/9 for boxes where detectron2 has plain L1.
"""

from collections.abc import Mapping, Sequence

import torchvision
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

from components import params
from components.benchmarks.detection.torchvision_parts import (
    NORMS,
    AlignedRegions,
    C4Trunk,
    Res5Head,
    draw_as_detectron2,
    out_channels,
)

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RATIOS = (0.5, 1.0, 2.0)  # height / width of the anchors
FPN_STRIDES = (4, 8, 16, 32)  # pixels of the image to a position of layer1 to layer4
C4_STRIDE = 16
BOX_CELLS, MASK_CELLS = 7, 14  # a side, into which a region of the pyramid is cut
MASK_CONVOLUTIONS = 4
BOX_HEAD_WIDTH = 4  # times the channels of the pyramid


def mask_rcnn_fpn(
    architecture: str, backbone: Mapping[str, Tensor], num_classes: int, settings: params.Segmentation
) -> GeneralizedRCNN:
    """Mask R-CNN on all four stages through a feature pyramid.

    With ``norm: batch`` all normalisation is trained, FPN's included; ``frozen`` keeps the backbone's
    statistics and has none in the FPN (the paper's ImageNet baseline on LVIS).

    Args:
        architecture: torchvision's name of the ResNet.
        backbone: its weights by torchvision's names, without ``fc``.
        num_classes: without the background.
        settings: sizes of images, anchors, heads and outputs.
    """
    cnn = _resnet(architecture, backbone, settings.norm)
    channels, width = settings.head_channels, BOX_HEAD_WIDTH * settings.head_channels
    trunk = BackboneWithFPN(
        cnn,
        {f"layer{stage}": str(stage - 1) for stage in (1, 2, 3, 4)},
        [out_channels(cnn.get_submodule(f"layer{stage}")) for stage in (1, 2, 3, 4)],
        channels,
        norm_layer=nn.BatchNorm2d if settings.norm == "batch" else None,
    )
    model = MaskRCNN(
        trunk,
        rpn_anchor_generator=AnchorGenerator(
            tuple((size,) for size in settings.anchor_sizes), (RATIOS,) * len(settings.anchor_sizes)
        ),
        box_roi_pool=AlignedRegions(FPN_STRIDES, BOX_CELLS),
        box_head=TwoMLPHead(channels * BOX_CELLS**2, width),
        box_predictor=FastRCNNPredictor(width, num_classes + 1),
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
    """Faster R-CNN whose regions come from layer3 and pass through layer4; arguments as above."""
    cnn = _resnet(architecture, backbone, settings.norm)
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
    """From now on images are resized to one of these: by chance in training, to the last in eval mode."""
    model.transform.min_size = tuple(shorter_sides)


def _shared(settings: params.Detection) -> dict[str, object]:
    return {
        "min_size": list(settings.train_sizes),
        "max_size": settings.max_size,
        "image_mean": IMAGENET_MEAN,
        "image_std": IMAGENET_STD,
        "rpn_post_nms_top_n_train": settings.train_proposals,
        "rpn_post_nms_top_n_test": settings.test_proposals,
        "box_batch_size_per_image": settings.rois_per_image,
        "box_detections_per_img": settings.detections_per_image,
        "box_score_thresh": settings.score_threshold,
    }


def _resnet(architecture: str, backbone: Mapping[str, Tensor], norm: str) -> nn.Module:
    """The ResNet with its weights, all of it trainable."""
    cnn = torchvision.models.get_model(architecture, weights=None, norm_layer=NORMS[norm])
    cnn.fc = nn.Identity()
    cnn.load_state_dict(dict(backbone))
    return cnn
