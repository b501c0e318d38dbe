"""Stage ``imagenet_linear``: linear classifiers on the frozen ImageNet features of one backbone."""

from typing import Any

from torch import nn

from components import params
from components.benchmarks.classification.files import NAMES, Outcome, write_nothing, write_outcome
from components.benchmarks.classification.linear_probe import (
    build_probe,
    diverged_rates,
    feature_batches,
    figures_by_rate,
    hold_out,
    probe_heads,
    probe_summary,
    shown_rate,
)
from components.benchmarks.classification.protocol import warn_of_other_classes
from components.benchmarks.classification.training import (
    Machine,
    cosine,
    fit,
    rank_classes,
)
from components.benchmarks.feature_cache import cached_features
from components.benchmarks.features import Features
from components.core import paths
from components.core.logs import own_logger
from components.data.transforms import EvalTransform
from components.dataset_titles import title_here
from components.entry import run_stage
from components.export.backbone import load_backbone
from components.sources.manifest import read_manifest, sha256
from components.sources.readers.imagenet import read_imagenet
from components.sources.readers.types import ClassifiedImages
from components.tracking import StageRun, used_splits
from components.training.distributed import current

SECTIONS = (params.ImagenetLinear,)
_logger = own_logger(__name__)
FEATURE_BATCH = 4096  # ready features of images in a batch


def main(run: StageRun, settings: params.ImagenetLinear) -> None:
    """Benchmark the backbone ``run.item``, from the newest checkpoint of the same probe if there is one.

    Several processes may do so together (components.training.distributed); the first one writes.
    """
    manifest = read_manifest(paths.dataset_part("imagenet"))
    entry = manifest.benchmarks.get("imagenet")
    if entry is None:
        if current().is_first:
            _write_nothing(run)
        return
    contexts = {"train": "training", "val": "validation"}
    run.uses(*used_splits(title_here("imagenet"), entry, contexts))
    root = manifest.root_of("imagenet")
    train, val = read_imagenet(root, "train"), read_imagenet(root, "val")
    if current().is_first:
        warn_of_other_classes(run.stage, settings, len(train.classes))
    train, held_out = hold_out(train, settings.holdout, settings.seed)
    reported_on = {"val": val} if held_out is None else {"val": val, "holdout": held_out}
    _probe(run, settings, train, reported_on, entry.model_dump_json())


def _probe(
    run: StageRun,
    settings: params.ImagenetLinear,
    train: ClassifiedImages,
    reported_on: dict[str, ClassifiedImages],
    images_digest: str,
) -> None:
    assert run.item is not None
    path = paths.backbone_path(run.item)
    backbone, metadata = load_backbone(path)
    host = Machine.here()
    features = {
        name: _features(backbone, images, settings, host, name) for name, images in reported_on.items()
    }
    val_share = feature_batches(features["val"], reported_on["val"].labels, FEATURE_BATCH, host.shard)
    objective = build_probe(backbone, int(metadata["feature_size"]), len(train.classes), settings)
    state, checkpoints = fit(
        objective,
        train,
        lambda: val_share,
        stage=run.stage,
        settings=settings,
        weight_decay=0.0,
        schedule=cosine(len(train.image_paths), settings),
        inputs={"backbone": sha256(path), "images": images_digest},
        host=host,
        log=run.log,
    )
    if not host.processes.is_first:
        return
    ranked = {
        name: rank_classes(
            objective, feature_batches(features[name], images.labels, FEATURE_BATCH), host.device, "fp32"
        )
        for name, images in reported_on.items()
    }
    heads = probe_heads(settings)
    diverged = diverged_rates(heads, objective.diverged_heads(), state.history.train)
    figures = probe_summary(
        settings,
        {
            name: figures_by_rate(heads, images.labels, ranked[name], diverged)
            for name, images in reported_on.items()
        },
        diverged,
    )
    is_there = shown_rate(settings.learning_rate) not in diverged
    shown_head = 0 if is_there else settings.learning_rates.index(figures["best_learning_rate"])
    title = f"ImageNet linear on {metadata['architecture']}, {run.item}"
    outcome = Outcome(
        title=title if is_there else f"{title}, learning rate {heads[shown_head].learning_rate:g}",
        state=state,
        heads=heads,
        epochs=settings.epochs,
        train_labels=train.labels,
        val=reported_on["val"],
        predicted=ranked["val"][shown_head, :, 0],
    )
    write_outcome(run.output_dir, outcome)
    for name in NAMES:
        run.artifact(run.output_dir / name)
    run.metrics({**figures, **outcome.figures()})
    _tell(run, settings, figures)
    checkpoints.remove()


def _tell(run: StageRun, settings: params.ImagenetLinear, figures: dict[str, Any]) -> None:
    for rate, reason in figures.get("diverged", {}).items():
        papers = ", of the figures reported," if rate == shown_rate(settings.learning_rate) else ""
        _logger.warning(
            "imagenet_linear: the head of learning rate %s%s has diverged: %s", rate, papers, reason
        )
    top1 = f"{figures['top1']:.2f} %" if "top1" in figures else "none"
    print(
        f"ImageNet linear top-1 of {run.item}: {top1} at {settings.learning_rate:g}, "
        f"best {figures['best_top1']:.2f} % at {figures['best_learning_rate']:g}",
        flush=True,
    )


def _features(
    backbone: nn.Module, images: ClassifiedImages, settings: params.ImagenetLinear, host: Machine, name: str
) -> Features:
    """Of several processes the first one extracts, and the others find what it kept."""
    if not host.processes.is_first:
        host.processes.wait()
    features = cached_features(
        backbone,
        images.image_paths,
        EvalTransform(settings.image_size, settings.crop_size, settings.antialias),
        batch_size=settings.batch_size,
        num_workers=host.num_workers,
        device=host.device,
        description=f"{name} features",
        upright=images.upright,
    )
    if host.processes.is_first:
        host.processes.wait()
    return features


def _write_nothing(run: StageRun) -> None:
    """Empty results, and the run goes on: ImageNet is not everybody's to have."""
    reason = "this run has no `imagenet` data"
    write_nothing(run.output_dir, "ImageNet linear", reason)
    run.metrics({"not_run": reason})
    print(f"ImageNet linear is not run: {reason}", flush=True)


if __name__ == "__main__":
    run_stage("imagenet_linear", SECTIONS, main, paths.exported_backbones, in_several_processes=True)
