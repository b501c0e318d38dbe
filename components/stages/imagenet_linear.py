"""Stage ``imagenet_linear``: linear classifiers on the frozen ImageNet features of one backbone."""

from components import params
from components.benchmarks.classification.imagenet_linear import probe
from components.benchmarks.classification.results import write_nothing, write_outcome
from components.core import paths
from components.dataset_titles import title_here
from components.entry import run_stage
from components.export.backbone import load_backbone
from components.sources.manifest import read_manifest, sha256
from components.sources.readers.imagenet import read_imagenet
from components.tracking import StageRun, used_splits
from components.training.distributed import current

SECTIONS = (params.ImagenetLinear,)
CONTEXTS = {"train": "training", "val": "validation"}


def main(run: StageRun, settings: params.ImagenetLinear) -> None:
    """Benchmark the backbone ``run.item``; empty results if this run has no ImageNet."""
    assert run.item is not None
    manifest = read_manifest(paths.dataset_part("imagenet"))
    entry = manifest.benchmarks.get("imagenet")
    if entry is None:
        if current().is_first:
            _write_nothing(run)
        return
    run.uses(*used_splits(title_here("imagenet"), entry, CONTEXTS))
    root, path = manifest.root_of("imagenet"), paths.backbone_path(run.item)
    outcome = probe(
        *load_backbone(path),
        read_imagenet(root, "train"),
        read_imagenet(root, "val"),
        settings,
        item=run.item,
        inputs={"backbone": sha256(path), "images": entry.model_dump_json()},
        log=run.log,
    )
    if outcome is not None:
        for file in write_outcome(run.output_dir, outcome):
            run.artifact(file)
        run.metrics(outcome.figures())
        outcome.checkpoints.remove()


def _write_nothing(run: StageRun) -> None:
    reason = "this run has no `imagenet` data"
    write_nothing(run.output_dir, "ImageNet linear", reason)
    run.metrics({"not_run": reason})
    print(f"ImageNet linear is not run: {reason}", flush=True)


if __name__ == "__main__":
    run_stage("imagenet_linear", SECTIONS, main, paths.exported_backbones, in_several_processes=True)
