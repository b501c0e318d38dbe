"""Stage ``voc07``: linear SVMs on the frozen features of one backbone."""

import time

from torch import nn

from components import machine, params, paths
from components.benchmarks.feature_cache import cached_features
from components.benchmarks.features import Features, l2_normalised
from components.benchmarks.voc07_results import draw_aps, summary, write_ap_table, write_curves
from components.benchmarks.voc07_svm import Split, SvmProtocol, evaluate_classes
from components.data.transforms import EvalTransform
from components.entry import run_stage
from components.errors import InputError
from components.export.backbone import load_backbone
from components.sources.manifest import read_manifest
from components.sources.voc import VocSplit, read_voc07
from components.tracking import StageRun

SECTIONS = (params.Voc07,)


def main(run: StageRun, voc07: params.Voc07) -> None:
    """Benchmark the backbone ``run.item``."""
    assert run.item is not None
    trainval, test = _read_splits()
    backbone, metadata = load_backbone(paths.backbone_path(run.item))
    start = time.perf_counter()
    splits = [
        Split(_features(backbone, split, voc07, name), split.labels)
        for name, split in (("trainval", trainval), ("test", test))
    ]
    extracted = time.perf_counter()
    protocol = SvmProtocol(tuple(voc07.costs), voc07.folds, voc07.positive_weight, voc07.max_iterations)
    results = evaluate_classes(trainval.classes, splits[0], splits[1], protocol, machine.device_name())
    figures = summary(results)
    write_ap_table(run.output_dir / "ap.csv", results)
    write_curves(run.output_dir / "precision_recall.csv", results)
    title = f"VOC07 linear SVMs on {metadata['architecture']}, {run.item}"
    draw_aps(run.output_dir / "ap.png", results, title)
    for name in ("ap.csv", "precision_recall.csv", "ap.png"):
        run.artifact(run.output_dir / name)
    run.metrics(
        {
            **figures,
            "num_trainval": len(trainval.image_paths),
            "num_test": len(test.image_paths),
            "features_seconds": round(extracted - start, 1),
            "svm_seconds": round(time.perf_counter() - extracted, 1),
        }
    )
    print(f"VOC07 mAP of {run.item}: {figures['mAP']:.2f} %", flush=True)


def _read_splits() -> tuple[VocSplit, VocSplit]:
    root = read_manifest(paths.DATASETS_MANIFEST).voc2007_root
    trainval, test = read_voc07(root, "trainval"), read_voc07(root, "test")
    if trainval.classes != test.classes:
        different = sorted(set(trainval.classes) ^ set(test.classes))
        raise InputError(
            f"{root}: ImageSets/Main must list the same classes for trainval and test; "
            f"only one of them lists {', '.join(different)}"
        )
    return trainval, test


def _features(backbone: nn.Module, split: VocSplit, voc07: params.Voc07, name: str) -> Features:
    features = cached_features(
        backbone,
        split.image_paths,
        EvalTransform(voc07.image_size, voc07.crop_size),
        batch_size=voc07.batch_size,
        num_workers=machine.num_cpus(),
        device=machine.device_name(),
        description=f"{name} features",
    )
    return l2_normalised(features)


if __name__ == "__main__":
    run_stage("voc07", SECTIONS, main, paths.exported_backbones)
