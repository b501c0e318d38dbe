"""Stage 4, ``pretrain``: learn a backbone and a head from captioned or labelled images."""

import hashlib
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.profiler import profile

from components import params
from components.captioning.captioner import Captioner
from components.captioning.samples import picture_of_captions, picture_of_samples
from components.core import machine, paths
from components.data.batch import collate_targets
from components.data.dataset import TrainDataset, ValDataset
from components.data.loader import train_loader, val_loader
from components.data.sampling import Shard
from components.data.selection import Selection, num_labels, select
from components.data.store import CaptionStore, Identity, identify
from components.data.targets import LABEL_TASKS, MakeTargets, make_targets
from components.data.transforms import EvalTransform, TrainTransform
from components.dataset_titles import title_here
from components.entry import run_stage
from components.objectives.build import ModelConfig, build_objective
from components.objectives.captioning import CaptioningObjective
from components.objectives.saved import Preprocessing, save_captioner
from components.text.tokenizer import CaptionTokenizer
from components.tracking import StageRun, UsedDataset
from components.training.checkpoints import CandidateFolder, CheckpointFolder, configuration_key
from components.training.curves import draw_losses
from components.training.distributed import current
from components.training.inference import Logits, logits_inputs
from components.training.loop import train
from components.training.profiling import write_profile
from components.training.state import TrainingState

SECTIONS = (
    params.Augmentation,
    params.Backbone,
    params.TextualHead,
    params.Objective,
    params.Subset,
    params.Optimizer,
    params.Schedule,
    params.Pretrain,
)

UNRELATED_KEYS = {"profile"}  # a checkpoint made with another value is good


def main(
    run: StageRun,
    augmentation: params.Augmentation,
    backbone: params.Backbone,
    textual_head: params.TextualHead,
    objective: params.Objective,
    subset: params.Subset,
    optimizer: params.Optimizer,
    schedule: params.Schedule,
    pretrain: params.Pretrain,
) -> None:
    """Train, from the newest checkpoint of this very configuration if there is one; write the candidates.

    Several processes may do so together (components.training.distributed); the first one writes.
    """
    params.check_params()  # what a later stage would refuse after the whole training; changes no output
    device = torch.device(machine.device_name())
    on_gpu = device.type == "cuda"
    torch.backends.cudnn.benchmark = on_gpu
    num_workers = machine.loading_workers(device.type)
    processes = current()
    shard = Shard(processes.rank, processes.count, pretrain.accumulate)
    part_size = shard.batch_size(pretrain.batch_size)

    train_store, val_store = (CaptionStore(paths.lmdb_path(split)) for split in ("train", "val"))
    tokenizer = CaptionTokenizer(paths.TOKENIZER_MODEL)
    by_labels = objective.name in LABEL_TASKS
    config = ModelConfig(
        backbone=backbone,
        textual_head=textual_head,
        objective=objective,
        vocab_size=num_labels(train_store, val_store) if by_labels else tokenizer.vocab_size,
    )
    targets = make_targets(objective.name, tokenizer, textual_head.max_caption_length)
    train_dataset, val_dataset = _datasets(
        train_store, val_store, augmentation, subset, targets, objective.name, pretrain.seed
    )
    val_batches = val_loader(
        val_dataset, batch_size=part_size, num_workers=num_workers, pin_memory=on_gpu, shard=shard
    )
    sections = (augmentation, backbone, textual_head, objective, subset, optimizer, schedule, pretrain)
    identities = {store.path: identify(store) for store in (train_store, val_store)}
    checkpoints = _checkpoints(sections, pretrain.keep_checkpoints, identities)

    torch.manual_seed(pretrain.seed)
    model = build_objective(config)
    preprocessing = Preprocessing(
        augmentation.crop_size, paths.TOKENIZER_MODEL.read_bytes(), antialias=augmentation.antialias
    )
    candidates = CandidateFolder(
        checkpoints.folder / "candidates",
        pretrain.keep_candidates,
        lambda path: save_captioner(path, model, config, preprocessing),
    )
    run.uses(
        _used(train_dataset, identities[train_store.path], "training"),
        _used(val_dataset, identities[val_store.path], "validation"),
    )
    run.image("training samples", lambda: picture_of_samples(train_dataset, tokenizer), 0)
    state = train(
        model,
        optimizer=optimizer,
        schedule=schedule,
        pretrain=pretrain,
        train_batches=lambda done: train_loader(
            train_dataset,
            batch_size=pretrain.batch_size,
            start_iteration=done,
            num_iterations=schedule.iterations,
            num_workers=num_workers,
            pin_memory=on_gpu,
            shard=shard,
        ),
        val_batches=lambda: val_batches,
        checkpoints=checkpoints,
        device=device,
        log=run.log,
        candidates=candidates,
        after_validation=_caption_logger(run, model, val_dataset, tokenizer, device),
        profiled=lambda profiled: _log_profile(run, profiled),
        processes=processes,
    )
    if not processes.is_first:
        return
    candidates.hand_over(paths.CANDIDATES_DIR)
    _write(run, state, train_dataset.selection, model)
    example = collate_targets([val_dataset[0], val_dataset[len(val_dataset) - 1]])
    run.model("captioner", Logits(model), logits_inputs(model, example))
    checkpoints.remove()


def _datasets(
    train_store: CaptionStore,
    val_store: CaptionStore,
    augmentation: params.Augmentation,
    subset: params.Subset,
    targets: MakeTargets,
    task: str,
    seed: int,
) -> tuple[TrainDataset, ValDataset]:
    chosen = select(train_store, task, subset)
    transform = EvalTransform(augmentation.crop_size, augmentation.crop_size, augmentation.antialias)
    return (
        TrainDataset(train_store, chosen, TrainTransform(augmentation), targets, seed=seed),
        ValDataset(val_store, select(val_store, task), transform, targets),
    )


def _used(dataset: TrainDataset | ValDataset, identity: Identity, context: str) -> UsedDataset:
    return UsedDataset(
        name=f"{' + '.join(map(title_here, identity.datasets))} {dataset.store.path.stem}",
        digest=identity.digest,
        context=context,
        source=dataset.store.path.as_posix(),
        profile={"images": len(dataset.selection), "captions": dataset.selection.num_captions},
    )


def _caption_logger(
    run: StageRun,
    model: nn.Module,
    dataset: ValDataset,
    tokenizer: CaptionTokenizer,
    device: torch.device,
) -> Callable[[int], None] | None:
    """Logs what the model says now of a few validation images; None if it writes no captions."""
    if not isinstance(model, CaptioningObjective):
        return None
    captioner = Captioner(model, tokenizer, dataset.transform, device)
    return lambda iteration: run.image(
        "validation captions", lambda: picture_of_captions(captioner, dataset), iteration
    )


def _log_profile(run: StageRun, profiled: profile) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for path in write_profile(profiled, Path(folder)):
            run.artifact(path, "profile")


def _write(run: StageRun, state: TrainingState, selection: Selection, model: nn.Module) -> None:
    for path in state.history.write_csv(run.output_dir):
        run.artifact(path)
    sizes = {
        "images": len(selection),
        "captions": selection.num_captions,
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    run.metrics({**summary(state), **sizes})
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder, "loss.png")
        draw_losses(picture, state.history)
        run.artifact(picture)


def summary(state: TrainingState) -> dict[str, Any]:
    """What goes into metrics.json: losses in nats a token, or an image where no token is predicted.

    Perplexity is averaged over directions, and absent where no token is predicted.
    """
    train, val = state.history.train[-1], state.history.val[-1]
    parts = {name: value for name, value in val.items() if name not in ("iteration", "loss")}
    predicts_tokens = "classification" not in parts
    perplexity = {"perplexity": math.exp(min(val["loss"] / len(parts), 700.0))} if predicts_tokens else {}
    return {
        "train_loss": train["loss"],
        "val_loss": val["loss"],
        "val": parts,
        **perplexity,
        "best_val_loss": min(row["loss"] for row in state.history.val),
        "iterations": state.iteration,
        "images_seen": state.num_images,
        "seconds": round(state.seconds, 3),
        "images_per_second": round(state.num_images / state.seconds, 2),
    }


def _checkpoints(
    sections: tuple[params.Section, ...], keep: int, identities: dict[Path, Identity]
) -> CheckpointFolder:
    inputs = {str(path): identity.digest for path, identity in identities.items()}
    inputs["tokenizer"] = hashlib.sha256(paths.TOKENIZER_MODEL.read_bytes()).hexdigest()
    values = {type(s).__name__: s.model_dump(mode="json", exclude=UNRELATED_KEYS) for s in sections}
    key = configuration_key(values, inputs)
    return CheckpointFolder(paths.SCRATCH_DIR / "pretrain" / key, key, keep)


if __name__ == "__main__":
    run_stage("pretrain", SECTIONS, main, in_several_processes=True)
