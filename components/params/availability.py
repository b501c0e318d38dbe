"""Which benchmarks cannot be measured, since the run lacks their data: known from params.yaml alone."""

from collections.abc import Mapping

from components.params.base import Section
from components.params.detection import CocoSegmentation, VocDetection
from components.params.download import Download


def reasons_not_run(sections: Mapping[str, Section]) -> dict[str, str]:
    """Why a benchmark is not run, by stage, in the words of the stage itself.

    Args:
        sections: all of params.yaml, by name, as ``check_params`` gives them.
    """
    download, segmentation, detection = (
        sections[name] for name in ("download", "coco_segmentation", "voc_detection")
    )
    assert isinstance(download, Download)
    assert isinstance(segmentation, CocoSegmentation)
    assert isinstance(detection, VocDetection)
    needed = {
        "voc07": "voc2007",
        "imagenet_linear": "imagenet",
        "inaturalist": "inaturalist",
        "lvis_segmentation": "lvis",
    }
    reasons = {
        stage: f"this run has no `{dataset}` data"
        for stage, dataset in needed.items()
        if not download.has(dataset)
    }
    if segmentation.dataset not in download.captioned_datasets:
        reasons["coco_segmentation"] = f"this run has no captioned dataset `{segmentation.dataset}`"
    for name in (*detection.train_sets, *detection.test_sets):
        year = name.partition("/")[0]
        if not download.has(f"voc{year}"):
            reasons["voc_detection"] = f"this run has no VOC{year}, which the set {name} needs"
            break
    return reasons
