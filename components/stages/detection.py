"""Stage ``detection``: a detector fine-tuned from one backbone, for one of three tasks."""

from components import params
from components.benchmarks.detection.benchmark import run_recorded
from components.benchmarks.detection.data import TASKS
from components.core import paths
from components.dataset_titles import title_here
from components.entry import run_stage
from components.tracking import StageRun, used_splits

SECTIONS: dict[str, type[params.Section]] = {
    "coco_segmentation": params.CocoSegmentation,
    "lvis_segmentation": params.LvisSegmentation,
    "voc_detection": params.VocDetection,
}


def main(run: StageRun, settings: params.Detection) -> None:
    """Benchmark a backbone, ``run.item`` is ``TASK-BACKBONE``; empty results if this run lacks the data."""
    name, backbone = paths.benchmark_of(run.stage, run.item)
    assert backbone is not None
    task, read_data = TASKS[name]
    data = read_data(settings)
    if not isinstance(data, str):
        for dataset, entry, contexts in data.used:
            run.uses(*used_splits(title_here(dataset), entry, contexts))
    run_recorded(run, task, backbone, data, settings)


if __name__ == "__main__":
    run_stage(
        "detection", SECTIONS, main, tuple(SECTIONS), paths.exported_backbones, in_several_processes=True
    )
