"""Stage ``imagenet_linear``: linear classifiers on the frozen ImageNet features of one backbone."""

from typing import Any

from torch import nn

from components import params, paths
from components.benchmarks.classification_files import NAMES, Outcome, write_nothing, write_outcome
from components.benchmarks.classification_training import (
    Machine,
    cosine,
    fit,
    rank_classes,
)
from components.benchmarks.feature_cache import cached_features
from components.benchmarks.features import Features
from components.benchmarks.linear_probe import (
    build_probe,
    feature_batches,
    figures_by_rate,
    hold_out,
    probe_heads,
)
from components.data.transforms import EvalTransform
from components.entry import run_stage
from components.export.backbone import load_backbone
from components.sources.classified import ClassifiedImages
from components.sources.imagenet import read_imagenet
from components.sources.manifest import read_manifest, sha256
from components.tracking import StageRun, used_splits
from components.training.distributed import current

SECTIONS = (params.ImagenetLinear,)
FEATURE_BATCH = 4096  # ready features of images in a batch


def main(run: StageRun, settings: params.ImagenetLinear) -> None:
    """Benchmark the backbone ``run.item``, from the newest checkpoint of the same probe if there is one.

    Several processes may do so together (components.training.distributed); the first one writes.
    """
    manifest = read_manifest(paths.dataset_part("imagenet"))
    if manifest.imagenet is None:
        if current().is_first:
            _write_nothing(run)
        return
    run.uses(*used_splits("ImageNet", manifest.imagenet, {"train": "training", "val": "validation"}))
    root = manifest.root_of("imagenet")
    train, val = read_imagenet(root, "train"), read_imagenet(root, "val")
    train, held_out = hold_out(train, settings.holdout, settings.seed)
    reported_on = {"val": val} if held_out is None else {"val": val, "holdout": held_out}
    _probe(run, settings, train, reported_on, manifest.imagenet.model_dump_json())


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
    val_share = feature_batches(features["val"], reported_on["val"].labels, FEATURE_BATCH, host.share)
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
    outcome = Outcome(
        title=f"ImageNet linear on {metadata['architecture']}, {run.item}",
        state=state,
        heads=heads,
        epochs=settings.epochs,
        train_labels=train.labels,
        val=reported_on["val"],
        predicted=ranked["val"][0, :, 0],
    )
    figures = summary(
        settings,
        {name: figures_by_rate(heads, images.labels, ranked[name]) for name, images in reported_on.items()},
    )
    write_outcome(run.output_dir, outcome)
    for name in NAMES:
        run.artifact(run.output_dir / name)
    run.metrics({**figures, **outcome.figures()})
    print(
        f"ImageNet linear top-1 of {run.item}: {figures['top1']:.2f} % at {settings.learning_rate:g}, "
        f"best {figures['best_top1']:.2f} % at {figures['best_learning_rate']:g}",
        flush=True,
    )
    checkpoints.remove()


def summary(
    settings: params.ImagenetLinear, by_rate: dict[str, dict[str, dict[str, float]]]
) -> dict[str, Any]:
    """The paper's learning rate, and beside it the best one: chosen on ``holdout``, else on ``val``.

    The latter chooses by the very images it then reports, so it is optimistic, the more so the more
    learning rates there are.
    """
    chooser = "holdout" if "holdout" in by_rate else "val"
    best = max(settings.learning_rates, key=lambda rate: by_rate[chooser][f"{rate:g}"]["top1"])
    reported = by_rate["val"]
    return {
        **reported[f"{settings.learning_rate:g}"],
        "learning_rate": settings.learning_rate,
        "best_top1": reported[f"{best:g}"]["top1"],
        "best_top5": reported[f"{best:g}"]["top5"],
        "best_learning_rate": best,
        "best_chosen_on": chooser,
        "by_learning_rate": by_rate,
    }


def _features(
    backbone: nn.Module, images: ClassifiedImages, settings: params.ImagenetLinear, host: Machine, name: str
) -> Features:
    """Of several processes the first one extracts, and the others find what it kept."""
    if not host.processes.is_first:
        host.processes.wait()
    features = cached_features(
        backbone,
        images.image_paths,
        EvalTransform(settings.image_size, settings.crop_size),
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
