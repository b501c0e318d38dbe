"""Training and detection with detectron2, which is optional: imported only here, inside functions."""

import functools
import logging
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from components import params
from components.benchmarks.detection.data import (
    BackboneWeights,
    DetectionImage,
    DetectionSplit,
    DetectionTask,
)
from components.benchmarks.detection.detections import Detections, encode_masks
from components.benchmarks.detection.detectron2_config import build_config, require_detectron2
from components.core.errors import InputError
from components.data.sampling import Shard
from components.export.detectron2 import detectron2_name
from components.sources.readers.objects import encode_mask
from components.training.distributed import Processes
from components.training.loop import Log
from components.training.metrics import Progress

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
            CPU in several processes, images cannot be divided evenly between them, or the loss is not finite.
        RuntimeError: a tensor of the backbone did not find its place.
    """
    require_detectron2()
    _join(processes, device)
    Shard(processes.rank, processes.count).batch_size(settings.batch_size)
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
    """Seed torch, and numpy and Python, from which detectron2 draws the order of the images."""
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
    """Return polygons, as in the paper, or bitmasks where an object to train on has run lengths."""
    trained = (item for image in images for item in image.objects if not item.is_crowd)
    has_runs = any(isinstance(item.segmentation, dict) for item in trained)
    return "bitmask" if has_runs else "polygon"


def record(image: DetectionImage, with_masks: bool, box_mode: Any) -> dict[str, Any]:
    """Return an image as detectron2's catalogue has it.

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
    """Leave polygons as they are, compress run lengths."""
    if isinstance(segmentation, list):
        return [list(map(float, polygon)) for polygon in segmentation]
    return encode_mask(segmentation, image.width, image.height)


@torch.inference_mode()
def _detect(model: nn.Module, config: Any, images: Sequence[DetectionImage]) -> list[Detections]:
    """Detect in this process's part of the images."""
    from detectron2.data import build_detection_test_loader

    model.eval()
    found = {}
    for batch in build_detection_test_loader(config, config.DATASETS.TEST[0]):
        for given, output in zip(batch, model(batch), strict=True):
            found[given["image_id"]] = _as_detections(given["image_id"], output["instances"].to("cpu"))
    return [found[image.image_id] for image in images if image.image_id in found]


def _as_detections(image_id: int | str, instances: Any) -> Detections:
    return Detections(
        image_id,
        instances.pred_boxes.tensor.numpy().astype(np.float32),
        instances.scores.numpy().astype(np.float32),
        instances.pred_classes.numpy().astype(np.int64),
        encode_masks(instances.pred_masks) if instances.has("pred_masks") else None,
    )


@functools.cache
def register_heads() -> None:
    """Give detectron2 the C4 head with a normalisation after res5 (MoCo, arXiv 1911.05722, appendix A)."""
    from detectron2.layers import get_norm
    from detectron2.modeling import ROI_HEADS_REGISTRY
    from detectron2.modeling.backbone.resnet import BasicBlock, ResNet
    from detectron2.modeling.roi_heads import Res5ROIHeads

    class Res5ROIHeadsExtraNorm(Res5ROIHeads):
        """Named as in the paper's configurations; also takes the basic blocks of ResNet-18 and 34."""

        @classmethod
        def _build_res5_block(cls, cfg: Any) -> tuple[nn.Sequential, int]:
            resnets = cfg.MODEL.RESNETS
            if resnets.DEPTH < 50:
                count = {18: 2, 34: 3}[resnets.DEPTH]
                out_channels = 8 * resnets.RES2_OUT_CHANNELS
                blocks = ResNet.make_stage(
                    BasicBlock,
                    count,
                    stride_per_block=[2] + [1] * (count - 1),
                    in_channels=out_channels // 2,
                    out_channels=out_channels,
                    norm=resnets.NORM,
                )
                res5 = nn.Sequential(*blocks)
            else:
                res5, out_channels = super()._build_res5_block(cfg)
            if cfg.MODEL.BACKBONE.FREEZE_AT >= 5:  # which itself ends at res4 in C4
                block: Any  # detectron2's, which has `freeze`
                for block in res5:
                    block.freeze()
            res5.add_module("norm", get_norm(resnets.NORM, out_channels))
            return res5, out_channels

    ROI_HEADS_REGISTRY.register(Res5ROIHeadsExtraNorm)


@functools.cache
def trainer_class() -> Any:
    """Define a ``DefaultTrainer`` that evaluates nothing itself and records its losses."""
    from detectron2.engine import DefaultTrainer, hooks
    from detectron2.utils import comm
    from detectron2.utils.events import get_event_storage

    class Trainer(DefaultTrainer):
        """Adds logged losses to DefaultTrainer's loop and to its checkpoints."""

        def __init__(self, cfg: Any, log_every: int, losses: LossRows) -> None:
            self._recording = Recording(losses, log_every)
            super().__init__(cfg)

        def build_hooks(self) -> list[Any]:
            kept = [
                hook
                for hook in super().build_hooks()
                if not isinstance(hook, hooks.EvalHook | hooks.PeriodicWriter)
            ]
            recording = [self._recording] if comm.is_main_process() else []  # where losses are gathered
            # First, so that a checkpoint has the loss of its own iteration.
            return [*recording, *kept, ProgressBar(self.cfg.SOLVER.IMS_PER_BATCH)]

    class Recording(hooks.HookBase):
        """Losses; the trainer puts this hook's state into its checkpoints."""

        def __init__(self, losses: LossRows, log_every: int) -> None:
            self._losses, self._log_every = losses, log_every

        def state_dict(self) -> dict[str, Any]:
            return self._losses.state_dict()

        def load_state_dict(self, state: Mapping[str, Any]) -> None:
            self._losses.load_state_dict(state)

        def after_step(self) -> None:
            self._losses.add(loss_parts(get_event_storage().latest()))
            done = self.trainer.iter + 1
            if done % self._log_every == 0 or done == self.trainer.max_iter:
                self._losses.close(done)

    class ProgressBar(hooks.HookBase):
        """How far training is, as the torchvision engine shows it."""

        def __init__(self, images_per_iteration: int) -> None:
            self._images_per_iteration = images_per_iteration
            self._open = ExitStack()

        def before_train(self) -> None:
            progress = Progress(
                self.trainer.max_iter, self.trainer.start_iter, is_shown=comm.is_main_process()
            )
            self._progress = self._open.enter_context(progress)

        def after_step(self) -> None:
            self._progress.advance(self._images_per_iteration)

        def after_train(self) -> None:
            self._open.close()

    return Trainer


def loss_parts(latest: Mapping[str, tuple[float, int]]) -> dict[str, Tensor]:
    """Return the parts of an iteration's loss among all that detectron2 stores by name with iteration."""
    losses = {name: torch.tensor(value) for name, (value, _) in latest.items() if name.startswith("loss")}
    return losses or {"total_loss": torch.tensor(latest["total_loss"][0])}


class LossRows:
    """Logged losses of a run; they go with its checkpoints.

    Attributes:
        rows: losses by iteration, means since the row before.
    """

    def __init__(self, log: Log) -> None:
        self.rows: list[dict[str, float]] = []
        self._log = log
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Add the parts of one iteration's loss."""
        self._count += 1
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value.detach()

    def close(self, iteration: int) -> dict[str, float]:
        """Log the row that ends after ``iteration``.

        Raises:
            InputError: the loss is not finite.
        """
        parts = {name: float(total) / self._count for name, total in self._sums.items()}
        self._sums, self._count = {}, 0
        loss = sum(parts.values())
        if not math.isfinite(loss):
            raise not_finite(f"at iteration {iteration}: {parts}")
        row = {"loss": loss, **parts}
        self.rows.append({"iteration": iteration, **row})
        self._log({f"train/{name}": value for name, value in row.items()}, iteration)
        return row

    def state_dict(self) -> dict[str, Any]:
        return {"rows": list(self.rows), "sums": dict(self._sums), "count": self._count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state_dict``; its rows are logged again."""
        self.rows[:], self._sums, self._count = state["rows"], dict(state["sums"]), state["count"]
        for row in self.rows:
            self._log({f"train/{k}": v for k, v in row.items() if k != "iteration"}, int(row["iteration"]))


def not_finite(where: str) -> InputError:
    """Return the error that says what to do when training has diverged."""
    return InputError(
        f"the detection loss is not finite {where}; lower the learning rate or lengthen the warm-up of this "
        f"benchmark in params.yaml"
    )
