"""Training and detection with detectron2, which is optional: imported only here, inside functions."""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pycocotools import mask as run_lengths
from torch import Tensor, nn

from components import params
from components.benchmarks.detection.data import DetectionImage, DetectionSplit
from components.benchmarks.detection.detections import Detections
from components.benchmarks.detection.detectron2_config import build_config, require_detectron2
from components.benchmarks.detection.detectron2_parts import register_heads, trainer_class
from components.benchmarks.detection.run_state import Log, LossRows, not_finite
from components.benchmarks.detection.task import BackboneWeights, DetectionTask
from components.core.errors import InputError
from components.data.share import Share
from components.export.detectron2 import detectron2_name
from components.sources.readers.objects import encode_mask
from components.training.distributed import Processes

RES5 = "roi_heads."  # where C4 models have the last stage


def fit_and_detect(
    task: DetectionTask,
    train: DetectionSplit,
    test: Sequence[DetectionImage],
    backbone: BackboneWeights,
    settings: params.Detection,
    *,
    scratch_dir: Path,
    device: torch.device,
    num_workers: int,
    processes: Processes,
    log: Log,
) -> tuple[list[Detections], list[dict[str, float]]]:
    """Fine-tune and detect; arguments and results as those of the torchvision engine.

    Checkpoints are detectron2's own, every ``checkpoint_every`` iterations, below ``scratch_dir``; a run
    continues from the newest.

    Raises:
        InputError: detectron2 is missing, has no counterpart of the architecture, or has to train on the
            CPU in several processes, images cannot be dealt evenly to the processes, or the loss is not
            finite.
        RuntimeError: a tensor of the backbone did not find its place.
    """
    require_detectron2()
    _join(processes, device)
    Share(processes.rank, processes.count).batch_size(settings.batch_size)
    register_heads()
    names = _register(task, train, test, scratch_dir.name)
    config = build_config(
        settings,
        backbone.architecture,
        len(train.classes),
        datasets=names,
        output_dir=scratch_dir,
        num_workers=num_workers,
        device=str(device),
        mask_format=mask_format(train.images),
    )
    os.makedirs(scratch_dir, exist_ok=True)
    _seed(settings.seed)
    losses = LossRows(log)
    trainer = trainer_class()(config, settings.log_every, losses)
    model = trainer.model.module if processes.count > 1 else trainer.model
    load_backbone(model, backbone.tensors)
    trainer.resume_or_load(resume=True)
    _seed(settings.seed + processes.rank)  # which anchors and regions are trained on
    logging.getLogger("detectron2.engine.train_loop").setLevel(logging.CRITICAL)  # it logs what it raises
    try:
        trainer.train()
    except FloatingPointError:
        raise not_finite(f"at iteration {trainer.iter + 1}") from None
    return _detect(model, config, test), losses.rows


def _join(processes: Processes, device: torch.device) -> None:
    """Tell detectron2 which processes are on this machine, as its own launcher does."""
    if processes.count == 1:
        return
    if device.type != "cuda":
        raise InputError(
            f"engine `detectron2` cannot train in {processes.count} processes on {device}; set "
            "VIRTEX_NUM_PROCESSES=1, or `engine: torchvision`"
        )
    from detectron2.utils import comm

    comm.create_local_process_group(int(os.environ["LOCAL_WORLD_SIZE"]))


def _seed(seed: int) -> None:
    """torch's numbers, and numpy's and Python's, from which detectron2 draws the order of the images."""
    from detectron2.utils.env import seed_all_rng

    seed_all_rng(seed)


def load_backbone(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put each tensor in its place: ``backbone.bottom_up``, ``backbone`` or the C4 model's res5 head.

    Args:
        model: detectron2's detector.
        tensors: of a ResNet, by torchvision's names.

    Raises:
        RuntimeError: a name or a shape does not fit; detectron2 itself would only warn.
    """
    state = model.state_dict()
    placed: dict[str, Tensor] = {}
    for torchvision_name, tensor in tensors.items():
        name = detectron2_name(torchvision_name)
        candidates = [f"backbone.bottom_up.{name}", f"backbone.{name}", f"{RES5}{name}"]
        target = next((key for key in candidates if key in state), None)
        if target is None and name.endswith("num_batches_tracked"):
            continue  # frozen normalisation has no counter
        if target is None or state[target].shape != tensor.shape:
            raise RuntimeError(f"the backbone's {name} {tuple(tensor.shape)} has no place in the detector")
        placed[target] = tensor
    model.load_state_dict(placed, strict=False)


def _register(
    task: DetectionTask, train: DetectionSplit, test: Sequence[DetectionImage], key: str
) -> tuple[str, str]:
    """Put both sets into detectron2's catalogue."""
    from detectron2.data import DatasetCatalog, MetadataCatalog
    from detectron2.structures import BoxMode

    names = (f"{task.name}_{key}_train", f"{task.name}_{key}_test")
    for name, images in zip(names, (train.images, test), strict=True):
        records = [record(image, task.with_masks, BoxMode.XYXY_ABS) for image in images]
        if name in DatasetCatalog.list():
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
        DatasetCatalog.register(name, lambda records=records: records)
        MetadataCatalog.get(name).set(thing_classes=list(train.classes))
    return names


def mask_format(images: Sequence[DetectionImage]) -> Literal["polygon", "bitmask"]:
    """Polygons, as in the paper; bitmasks where an object to train on has run lengths, which need them."""
    trained = (item for image in images for item in image.objects if not item.is_crowd)
    has_runs = any(isinstance(item.segmentation, dict) for item in trained)
    return "bitmask" if has_runs else "polygon"


def record(image: DetectionImage, with_masks: bool, box_mode: Any) -> dict[str, Any]:
    """An image as detectron2's catalogue has it.

    Numbers are floats: detectron2 resizes whole ones to whole ones.

    Args:
        image: with its objects.
        with_masks: whether objects keep their segmentation.
        box_mode: detectron2's constant for (left, top, right, bottom).
    """
    annotations = []
    for item in image.objects:
        annotation: dict[str, Any] = {
            "bbox": list(map(float, item.box)),
            "bbox_mode": box_mode,
            "category_id": item.label,
            "iscrowd": int(item.is_crowd),
        }
        if with_masks:
            annotation["segmentation"] = _segmentation(item.segmentation, image)
        annotations.append(annotation)
    return {
        "file_name": str(image.path),
        "image_id": image.image_id,
        "width": image.width,
        "height": image.height,
        "annotations": annotations,
    }


def _segmentation(segmentation: Any, image: DetectionImage) -> Any:
    """Polygons as they are, run lengths compressed."""
    if isinstance(segmentation, list):
        return [list(map(float, polygon)) for polygon in segmentation]
    return encode_mask(segmentation, image.width, image.height)


@torch.inference_mode()
def _detect(model: nn.Module, config: Any, images: Sequence[DetectionImage]) -> list[Detections]:
    """In this process's part of the images."""
    from detectron2.data import build_detection_test_loader

    model.eval()
    found = {}
    for batch in build_detection_test_loader(config, config.DATASETS.TEST[0]):
        for given, output in zip(batch, model(batch), strict=True):
            found[given["image_id"]] = _as_detections(given["image_id"], output["instances"].to("cpu"))
    return [found[image.image_id] for image in images if image.image_id in found]


def _as_detections(image_id: int | str, instances: Any) -> Detections:
    masks = None
    if instances.has("pred_masks"):
        solid = instances.pred_masks.numpy().astype(np.uint8)
        masks = run_lengths.encode(np.asfortranarray(solid.transpose(1, 2, 0))) if len(solid) else []
    return Detections(
        image_id,
        instances.pred_boxes.tensor.numpy().astype(np.float32),
        instances.scores.numpy().astype(np.float32),
        instances.pred_classes.numpy().astype(np.int64),
        masks,
    )
