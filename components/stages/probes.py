"""Stage ``probes``: what the frozen features of one backbone are worth from few images or none."""

from collections.abc import Sequence

from components import params
from components.benchmarks.probes.backbone import FIGURES, classified, voc_neighbours
from components.benchmarks.probes.result import Probed, record
from components.core import paths
from components.dataset_titles import title_here
from components.entry import run_stage
from components.models.backbones import load_backbone
from components.sources.manifest import read_manifest
from components.sources.readers.imagenet import read_imagenet
from components.sources.readers.voc import read_voc07
from components.tracking import StageRun, used_splits

SECTIONS = (params.Probes, params.Voc07, params.ImagenetLinear)
VOC_CONTEXTS = {"trainval": "training", "test": "test"}
IMAGENET_CONTEXTS = {"train": "training", "val": "validation"}


def main(run: StageRun, probes: params.Probes, voc07: params.Voc07, imagenet: params.ImagenetLinear) -> None:
    """Probe the backbone ``run.item`` on what data this run has."""
    assert run.item is not None
    backbone, _ = load_backbone(paths.backbone_path(run.item))
    which = [name for name in ("knn", "few_shot") if name in probes.which]
    probed: list[Probed] = []
    manifest = read_manifest(paths.dataset_part("voc07"))
    if "knn" in which and "voc2007" in manifest.benchmarks:
        run.uses(*used_splits(title_here("voc2007"), manifest.benchmarks["voc2007"], VOC_CONTEXTS))
        root = manifest.root_of("voc2007")
        splits = read_voc07(root, "trainval"), read_voc07(root, "test")
        probed.append(voc_neighbours(backbone, *splits, voc07))
    manifest = read_manifest(paths.dataset_part("imagenet_linear"))
    if which and "imagenet" in manifest.benchmarks:
        run.uses(*used_splits(title_here("imagenet"), manifest.benchmarks["imagenet"], IMAGENET_CONTEXTS))
        root = manifest.root_of("imagenet")
        images = read_imagenet(root, "train"), read_imagenet(root, "val")
        probed += classified(backbone, *images, imagenet, which)
    record(run, f"probes of {run.item}", probed, "probes", probes, FIGURES, _reason(which))


def _reason(which: Sequence[str]) -> str:
    if not which:
        return "`probes.which` names none that need a backbone alone"
    return "this run has no `imagenet` data" + (" and no `voc2007` data" if "knn" in which else "")


if __name__ == "__main__":
    run_stage("probes", SECTIONS, main, paths.exported_backbones)
