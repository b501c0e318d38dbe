"""Stage ``probes``: what the frozen features of one backbone are worth from few images or none."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import nn

from components import params
from components.benchmarks.probes.attentive import FIGURE as ATTENTIVE
from components.benchmarks.probes.attentive import attentive_classes
from components.benchmarks.probes.backbone import FIGURES as OF_FEATURES
from components.benchmarks.probes.backbone import classified, voc_neighbours
from components.benchmarks.probes.result import Probed, data_of, record
from components.benchmarks.probes.segmentation import FIGURE as SEGMENTATION
from components.benchmarks.probes.segmentation import segmented
from components.core import paths
from components.dataset_titles import title_here
from components.entry import run_stage
from components.models.backbones import load_backbone
from components.sources.manifest import read_manifest
from components.sources.readers.imagenet import read_imagenet
from components.sources.readers.voc import read_voc07
from components.sources.readers.voc_masks import MANIFEST_SPLITS, read_masked_images
from components.tracking import StageRun, used_splits

SECTIONS = (params.Probes, params.Voc07, params.ImagenetLinear)
DATA = {  # any of them will do
    "knn": ("voc2007", "imagenet"),
    "few_shot": ("imagenet",),
    "attentive": ("voc2007",),
    "segmentation": ("voc2012",),
}
FIGURES = (*OF_FEATURES, ATTENTIVE, SEGMENTATION)


def main(run: StageRun, probes: params.Probes, voc07: params.Voc07, imagenet: params.ImagenetLinear) -> None:
    """Probe the backbone ``run.item`` on what data this run has."""
    assert run.item is not None
    backbone, _ = load_backbone(paths.backbone_path(run.item))
    probed = [
        *_on_voc2007(run, backbone, probes, voc07),
        *_on_voc2012(run, backbone, probes, voc07),
        *_on_imagenet(run, backbone, probes, imagenet),
    ]
    record(run, f"probes of {run.item}", probed, "probes", probes, FIGURES, _reason(probes.which))


def _on_voc2007(
    run: StageRun, backbone: nn.Module, probes: params.Probes, settings: params.Voc07
) -> list[Probed]:
    root = _root(run, probes, "voc2007", "voc07", {"trainval": "training", "test": "test"})
    if root is None:
        return []
    splits = read_voc07(root, "trainval"), read_voc07(root, "test")
    probed = []
    if "knn" in probes.which:
        probed.append(voc_neighbours(backbone, *splits, settings))
    if "attentive" in probes.which:
        probed.append(attentive_classes(backbone, *splits, settings, probes.attentive_epochs))
    return probed


def _on_voc2012(
    run: StageRun, backbone: nn.Module, probes: params.Probes, settings: params.Voc07
) -> list[Probed]:
    contexts = {MANIFEST_SPLITS["train"]: "training", MANIFEST_SPLITS["val"]: "validation"}
    root = _root(run, probes, "voc2012", "voc_detection", contexts)
    if root is None:
        return []
    splits = read_masked_images(root, "train"), read_masked_images(root, "val")
    return [segmented(backbone, *splits, probes, settings)]


def _on_imagenet(
    run: StageRun, backbone: nn.Module, probes: params.Probes, settings: params.ImagenetLinear
) -> list[Probed]:
    root = _root(run, probes, "imagenet", "imagenet_linear", {"train": "training", "val": "validation"})
    if root is None:
        return []
    return classified(
        backbone, read_imagenet(root, "train"), read_imagenet(root, "val"), settings, probes.which
    )


def _root(
    run: StageRun, probes: params.Probes, dataset: str, part: str, contexts: Mapping[str, str]
) -> Path | None:
    """Return where a dataset lies, and record its use; None if no probe wants it or this run lacks it.

    Args:
        run: records it.
        probes: what is wanted.
        dataset: its name.
        part: of the manifest.
        contexts: what its splits are used for; a dataset without one of them is lacking.
    """
    manifest = read_manifest(paths.dataset_part(part))
    wanted = any(dataset in DATA.get(name, ()) for name in probes.which)
    if (
        not wanted
        or dataset not in manifest.benchmarks
        or not contexts.keys() <= manifest.benchmarks[dataset].images.keys()
    ):
        return None
    run.uses(*used_splits(title_here(dataset), manifest.benchmarks[dataset], contexts))
    return manifest.root_of(dataset)


def _reason(which: Sequence[str]) -> str:
    wanted = sorted({dataset for name in which for dataset in DATA.get(name, ())})
    if not wanted:
        return "`probes.which` names none that need a backbone alone"
    return f"this run has {' and '.join(f'no {data_of(dataset)}' for dataset in wanted)}"


if __name__ == "__main__":
    run_stage("probes", SECTIONS, main, paths.exported_backbones)
