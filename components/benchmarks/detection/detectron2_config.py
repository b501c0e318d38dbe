"""detectron2's configuration for a benchmark: the paper's files, with the sizes of params.yaml.

Facts from the paper's public configurations (kdexd/virtex v1.2, configs/detectron2), which follow MoCo's
protocol (arXiv 1911.05722). detectron2 is optional and imported only where it is used.
"""

import re
from pathlib import Path
from typing import Any

from components import params
from components.core.errors import InputError

INSTALL = (
    "python -m pip install --no-build-isolation "
    "'git+https://github.com/facebookresearch/detectron2.git@02b5c4e295e9'"
)
PIXEL_MEAN, PIXEL_STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]  # RGB, of values from 0 to 255
NORMS = {"batch": "SyncBN", "frozen": "FrozenBN"}
BOX_HEAD_WIDTH = 4  # times the channels of the pyramid


def require_detectron2() -> None:
    """Raise InputError, with the command that installs it, if detectron2 is not installed."""
    try:
        import detectron2  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"engine `detectron2` is not installed ({error}). Install it from its repository: {INSTALL}. "
            f"Or set `engine: torchvision`"
        ) from error


def build_config(
    settings: params.Detection,
    architecture: str,
    num_classes: int,
    *,
    datasets: tuple[str, str],
    output_dir: Path,
    num_workers: int,
    device: str,
    mask_format: str = "polygon",
) -> Any:
    """Return a frozen ``CfgNode``.

    Args:
        settings: the benchmark's section, which also says which detector.
        architecture: torchvision's name of the backbone.
        num_classes: without the background.
        datasets: names of the training and the test set in detectron2's catalogue.
        output_dir: of detectron2's own checkpoints.
        num_workers: of the training loader.
        device: such as ``cuda`` or ``cpu``.
        mask_format: ``polygon``, detectron2's default and the paper's, or ``bitmask``.
    """
    from detectron2.config import get_cfg

    config = get_cfg()
    config.merge_from_list(_flat(_resnet(architecture, settings)))
    config.merge_from_list(_flat(_detector(settings)))
    config.merge_from_list(_flat(_run(settings)))
    config.MODEL.ROI_HEADS.NUM_CLASSES = num_classes
    config.MODEL.DEVICE = device
    config.INPUT.MASK_FORMAT = mask_format
    config.MODEL.WEIGHTS = ""  # the backbone is loaded by hand, and every tensor of it is checked
    config.DATASETS.TRAIN, config.DATASETS.TEST = (datasets[0],), (datasets[1],)
    config.DATALOADER.NUM_WORKERS = num_workers
    config.OUTPUT_DIR = str(output_dir)
    config.freeze()
    return config


def _flat(keys: dict[str, Any]) -> list[Any]:
    return [part for item in keys.items() for part in item]


def _resnet(architecture: str, settings: params.Detection) -> dict[str, Any]:
    match = re.fullmatch(r"(wide_)?resnet(18|34|50|101|152)(_2)?", architecture)
    if match is None:
        raise InputError(
            f"engine `detectron2` has no counterpart of {architecture}; set `engine: torchvision`"
        )
    depth = int(match[2])
    return {
        "MODEL.RESNETS.DEPTH": depth,
        "MODEL.RESNETS.RES2_OUT_CHANNELS": 64 if depth < 50 else 256,
        "MODEL.RESNETS.WIDTH_PER_GROUP": 128 if match[1] else 64,
        "MODEL.RESNETS.STRIDE_IN_1X1": False,  # as torchvision's
        "MODEL.RESNETS.NORM": NORMS[settings.norm],
        "MODEL.BACKBONE.FREEZE_AT": settings.freeze_at,
        "MODEL.PIXEL_MEAN": PIXEL_MEAN,
        "MODEL.PIXEL_STD": PIXEL_STD,
        "INPUT.FORMAT": "RGB",
    }


def _detector(settings: params.Detection) -> dict[str, Any]:
    sizes = list(settings.anchor_sizes)
    if isinstance(settings, params.VocDetection):
        return {
            "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": settings.region_cells,
            "MODEL.ROI_HEADS.NAME": "Res5ROIHeadsExtraNorm",
            "MODEL.ANCHOR_GENERATOR.SIZES": [sizes],
            "MODEL.RPN.PRE_NMS_TOPK_TEST": 6000,
            "MODEL.MASK_ON": False,
        }
    assert isinstance(settings, params.Segmentation)
    return {
        "MODEL.FPN.OUT_CHANNELS": settings.head_channels,
        "MODEL.ROI_BOX_HEAD.FC_DIM": BOX_HEAD_WIDTH * settings.head_channels,
        "MODEL.ROI_MASK_HEAD.CONV_DIM": settings.head_channels,
        "MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone",
        "MODEL.RESNETS.OUT_FEATURES": ["res2", "res3", "res4", "res5"],
        "MODEL.FPN.IN_FEATURES": ["res2", "res3", "res4", "res5"],
        "MODEL.FPN.NORM": "SyncBN" if settings.norm == "batch" else "",
        "MODEL.ANCHOR_GENERATOR.SIZES": [[size] for size in sizes],
        "MODEL.RPN.IN_FEATURES": ["p2", "p3", "p4", "p5", "p6"],
        "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 2000,
        "MODEL.RPN.PRE_NMS_TOPK_TEST": 1000,
        "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
        "MODEL.ROI_HEADS.IN_FEATURES": ["p2", "p3", "p4", "p5"],
        "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
        "MODEL.ROI_BOX_HEAD.NUM_FC": 2,
        "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 7,
        "MODEL.ROI_MASK_HEAD.NAME": "MaskRCNNConvUpsampleHead",
        "MODEL.ROI_MASK_HEAD.NUM_CONV": 4,
        "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": 14,
        "MODEL.MASK_ON": True,
    }


def _run(settings: params.Detection) -> dict[str, Any]:
    return {
        "INPUT.MIN_SIZE_TRAIN": tuple(settings.train_sizes),
        "INPUT.MAX_SIZE_TRAIN": settings.max_size,
        "INPUT.MIN_SIZE_TEST": settings.test_size,
        "INPUT.MAX_SIZE_TEST": settings.max_size,
        "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": settings.rois_per_image,
        "MODEL.RPN.BATCH_SIZE_PER_IMAGE": settings.anchors_per_image,
        "MODEL.RPN.POST_NMS_TOPK_TRAIN": settings.train_proposals,
        "MODEL.RPN.POST_NMS_TOPK_TEST": settings.test_proposals,
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST": settings.score_threshold,
        "TEST.DETECTIONS_PER_IMAGE": settings.detections_per_image,
        "TEST.PRECISE_BN.ENABLED": settings.norm == "batch" and settings.precise_bn_batches > 0,
        "TEST.PRECISE_BN.NUM_ITER": max(1, settings.precise_bn_batches),
        "DATALOADER.SAMPLER_TRAIN": (
            "RepeatFactorTrainingSampler" if settings.repeat_threshold else "TrainingSampler"
        ),
        "DATALOADER.REPEAT_THRESHOLD": settings.repeat_threshold,
        "SOLVER.IMS_PER_BATCH": settings.batch_size,
        "SOLVER.BASE_LR": settings.learning_rate,
        "SOLVER.WEIGHT_DECAY": settings.weight_decay,
        "SOLVER.MAX_ITER": settings.iterations,
        "SOLVER.STEPS": tuple(step for step in settings.milestones if step < settings.iterations),
        "SOLVER.WARMUP_ITERS": settings.warmup_iterations,
        "SOLVER.CHECKPOINT_PERIOD": settings.checkpoint_every,
        "SEED": settings.seed,
    }
