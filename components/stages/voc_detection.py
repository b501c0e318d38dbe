"""Stage ``voc_detection``: Faster R-CNN C4 fine-tuned from one backbone on VOC."""

from components import params
from components.benchmarks.detection.data import DetectionSplit, read_voc
from components.benchmarks.detection.recorded import run_recorded
from components.benchmarks.detection.task import VOC_DETECTION
from components.core import paths
from components.entry import run_stage
from components.sources.parts import read_voc_parts
from components.tracking import StageRun

SECTIONS = (params.VocDetection,)


def main(run: StageRun, settings: params.VocDetection) -> None:
    """Benchmark the backbone ``run.item``; empty results if this run lacks one of the years."""
    assert run.item is not None
    run_recorded(run, VOC_DETECTION, run.item, _data(settings), settings)


def _data(settings: params.VocDetection) -> tuple[DetectionSplit, DetectionSplit] | str:
    roots = read_voc_parts().voc_roots
    for name in (*settings.train_sets, *settings.test_sets):
        year = name.partition("/")[0]
        if int(year) not in roots:
            return f"this run has no VOC{year}, which the set {name} needs"
    train = read_voc(roots, settings.train_sets)
    return train, read_voc(roots, settings.test_sets, train.classes)


if __name__ == "__main__":
    run_stage("voc_detection", SECTIONS, main, paths.exported_backbones, in_several_processes=True)
