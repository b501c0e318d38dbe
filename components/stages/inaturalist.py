"""Stage ``inaturalist``: one backbone, fine-tuned end to end on iNaturalist 2018."""

from components import params
from components.benchmarks.classification.inaturalist import finetune
from components.benchmarks.classification.results import write_nothing, write_outcome
from components.core import paths
from components.core.errors import InputError
from components.dataset_titles import title_here
from components.entry import run_stage
from components.export.backbone import load_backbone
from components.sources.manifest import read_manifest, sha256
from components.sources.readers.inaturalist import read_inaturalist
from components.tracking import StageRun, used_splits
from components.training.distributed import current

SECTIONS = (params.Inaturalist,)
CONTEXTS = {"train": "training", "val": "validation"}


def main(run: StageRun, settings: params.Inaturalist) -> None:
    """Benchmark the backbone ``run.item``; empty results if this run has no iNaturalist."""
    assert run.item is not None
    manifest = read_manifest(paths.dataset_part("inaturalist"))
    entry = manifest.benchmarks.get("inaturalist")
    if entry is None:
        if current().is_first:
            _write_nothing(run)
        return
    run.uses(*used_splits(title_here("inaturalist"), entry, CONTEXTS))
    root, path = manifest.root_of("inaturalist"), paths.backbone_path(run.item)
    train, val = read_inaturalist(root, "train"), read_inaturalist(root, "val")
    if train.classes != val.classes:
        raise InputError(f"{root}: train and val list different categories; are they of the same year?")
    inputs = {"backbone": sha256(path), "images": entry.model_dump_json()}
    outcome = finetune(*load_backbone(path), train, val, settings, item=run.item, inputs=inputs, log=run.log)
    if outcome is not None:
        for file in write_outcome(run.output_dir, outcome):
            run.artifact(file)
        run.metrics(outcome.figures())
        outcome.checkpoints.remove()


def _write_nothing(run: StageRun) -> None:
    reason = "this run has no `inaturalist` data"
    write_nothing(run.output_dir, "iNaturalist 2018", reason)
    run.metrics({"not_run": reason})
    print(f"iNaturalist 2018 is not run: {reason}", flush=True)


if __name__ == "__main__":
    run_stage("inaturalist", SECTIONS, main, paths.exported_backbones, in_several_processes=True)
