"""Stage ``inaturalist``: one backbone, fine-tuned end to end on iNaturalist 2018."""

from components import params
from components.benchmarks.classification.class_frequency import accuracy_by_frequency, frequency_groups
from components.benchmarks.classification.files import NAMES, Outcome, write_nothing, write_outcome
from components.benchmarks.classification.finetune import build_finetuning
from components.benchmarks.classification.protocol import warn_of_other_classes
from components.benchmarks.classification.results import Head, accuracy
from components.benchmarks.classification.training import (
    Machine,
    fit,
    labelled_batches,
    multistep,
    rank_classes,
)
from components.core import paths
from components.core.errors import InputError
from components.dataset_titles import title_here
from components.entry import run_stage
from components.export.backbone import load_backbone
from components.sources.manifest import Manifest, read_manifest, sha256
from components.sources.readers.inaturalist import read_inaturalist
from components.sources.readers.types import ClassifiedImages
from components.tracking import StageRun, used_splits
from components.training.distributed import current

SECTIONS = (params.Inaturalist,)


def main(run: StageRun, settings: params.Inaturalist) -> None:
    """Benchmark the backbone ``run.item``, from the newest checkpoint of this training if there is one.

    Several processes may do so together (components.training.distributed); the first one writes.
    """
    manifest = read_manifest(paths.dataset_part("inaturalist"))
    entry = manifest.benchmarks.get("inaturalist")
    if entry is None:
        if current().is_first:
            _write_nothing(run)
        return
    contexts = {"train": "training", "val": "validation"}
    run.uses(*used_splits(title_here("inaturalist"), entry, contexts))
    train, val = _read_splits(manifest)
    if current().is_first:
        warn_of_other_classes(run.stage, settings, len(train.classes))
    _finetune(run, settings, train, val, entry.model_dump_json())


def _finetune(
    run: StageRun,
    settings: params.Inaturalist,
    train: ClassifiedImages,
    val: ClassifiedImages,
    images_digest: str,
) -> None:
    assert run.item is not None
    path = paths.backbone_path(run.item)
    backbone, metadata = load_backbone(path)
    host = Machine.here()
    objective = build_finetuning(backbone, int(metadata["feature_size"]), len(train.classes), settings.seed)
    state, checkpoints = fit(
        objective,
        train,
        labelled_batches(val, settings, host, host.shard),
        stage=run.stage,
        settings=settings,
        weight_decay=settings.weight_decay,
        schedule=multistep(len(train.image_paths), settings, settings.milestones, settings.gamma),
        inputs={"backbone": sha256(path), "images": images_digest},
        host=host,
        log=run.log,
    )
    if not host.processes.is_first:
        return
    val_batches = labelled_batches(val, settings, host)()
    (ranked,) = rank_classes(objective, val_batches, host.device, settings.precision)
    groups = frequency_groups(train.labels, len(train.classes), settings.many_above, settings.few_below)
    by_frequency = accuracy_by_frequency(groups, val.labels, ranked[:, 0])
    outcome = Outcome(
        title=f"iNaturalist 2018, fine-tuned {metadata['architecture']}, {run.item}",
        state=state,
        heads=[Head("", settings.learning_rate)],
        epochs=settings.epochs,
        train_labels=train.labels,
        val=val,
        predicted=ranked[:, 0],
        groups={name: group["top1"] for name, group in by_frequency.items() if "top1" in group},
    )
    figures = accuracy(val.labels, ranked)
    write_outcome(run.output_dir, outcome)
    for name in NAMES:
        run.artifact(run.output_dir / name)
    run.metrics({**figures, "by_frequency": by_frequency, **outcome.figures()})
    print(f"iNaturalist top-1 of {run.item}: {figures['top1']:.2f} %", flush=True)
    checkpoints.remove()


def _read_splits(manifest: Manifest) -> tuple[ClassifiedImages, ClassifiedImages]:
    root = manifest.root_of("inaturalist")
    train, val = read_inaturalist(root, "train"), read_inaturalist(root, "val")
    if train.classes != val.classes:
        raise InputError(f"{root}: train and val list different categories; are they of the same year?")
    return train, val


def _write_nothing(run: StageRun) -> None:
    """Empty results, and the run goes on."""
    reason = "this run has no `inaturalist` data"
    write_nothing(run.output_dir, "iNaturalist 2018", reason)
    run.metrics({"not_run": reason})
    print(f"iNaturalist 2018 is not run: {reason}", flush=True)


if __name__ == "__main__":
    run_stage("inaturalist", SECTIONS, main, paths.exported_backbones, in_several_processes=True)
