"""A detection benchmark from an exported backbone to its files and figures: what its three stages share."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from components import params
from components.benchmarks.detection.benchmark import run_benchmark, write_files, write_nothing
from components.benchmarks.detection.data import DetectionSplit
from components.benchmarks.detection.task import BackboneWeights, DetectionTask
from components.core import machine, paths
from components.export.backbone import load_backbone
from components.training.distributed import current


class Run(Protocol):
    """The record of a stage that is run for one backbone, ``item``."""

    @property
    def item(self) -> str | None: ...

    @property
    def output_dir(self) -> Path: ...

    def log(self, metrics: Mapping[str, float], step: int | None = None) -> None: ...

    def artifact(self, path: Path) -> None: ...

    def metrics(self, summary: Mapping[str, Any]) -> None: ...


def run_recorded(
    run: Run,
    task: DetectionTask,
    data: tuple[DetectionSplit, DetectionSplit] | str,
    settings: params.Detection,
) -> None:
    """Benchmark the backbone ``run.item``, from the newest checkpoint of this training if there is one.

    Several processes may do so together (components.training.distributed); the first one writes.

    Args:
        run: where figures, files and progress go.
        task: which benchmark.
        data: training and test images; or why this run has none, which makes its results empty.
        settings: the benchmark's section of params.yaml.
    """
    assert run.item is not None
    if isinstance(data, str):
        _record_nothing(run, task, reason=data)
        return
    train, test = data
    if task.with_masks and not (train.has_masks and test.has_masks):
        lacking = "test" if train.has_masks else "training"
        _record_nothing(run, task, reason=f"no object of the {lacking} images has a mask (`segmentation`)")
        return
    backbone, metadata = load_backbone(paths.backbone_path(run.item))
    outcome = run_benchmark(
        task,
        train,
        test,
        BackboneWeights(metadata["architecture"], backbone.state_dict()),
        settings,
        scratch_dir=paths.SCRATCH_DIR / task.name,
        device=torch.device(machine.device_name()),
        num_workers=machine.num_cpus(),
        processes=current(),
        log=run.log,
    )
    if outcome is None:
        return
    title = f"{task.name} from {run.item}, {settings.engine}"
    for path in write_files(outcome, test, settings, run.output_dir, title):
        run.artifact(path)
    run.metrics(outcome.figures())
    print(f"{title}: {outcome.headline(task)}", flush=True)


def _record_nothing(run: Run, task: DetectionTask, reason: str) -> None:
    if not current().is_first:
        return
    write_nothing(task, run.output_dir, reason)
    run.metrics({"not_run": reason})
    print(f"{task.name} is not run: {reason}", flush=True)
