"""Pretraining: learn a backbone and a head from captioned or labelled images (paper, section 3).

What it leaves: figures and curves, and the model as one function of tensors.
"""

import math
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.profiler import profile

from components import params
from components.captioning.captioner import Captioner
from components.captioning.samples import picture_of_captions, picture_of_samples
from components.core import machine, paths
from components.core.files import sha256, writing
from components.core.memory import batch_bytes, require_memory
from components.core.redaction import redacted
from components.data.batch import collate_targets
from components.data.dataset import TrainDataset, ValDataset
from components.data.loader import val_loader, visit_loader
from components.data.sampling import Shard
from components.data.selection import Selection, num_labels, select
from components.data.store import CaptionStore, Identity, identify
from components.data.targets import LABEL_TASKS, MakeTargets, make_targets
from components.data.transforms import EvalTransform, TrainTransform
from components.dataset_titles import title_here
from components.objectives.build import ModelConfig, build_objective, model_bytes
from components.objectives.captioning import CaptioningObjective
from components.objectives.contrastive import ContrastiveClassificationObjective
from components.objectives.idf_classification import IdfTokenClassificationObjective
from components.objectives.interface import Objective
from components.objectives.saved import Preprocessing, save_captioner
from components.params.expected_time import ceiling_share
from components.pretraining.start import digests, start_model
from components.text.document_frequencies import read_weights
from components.text.tokenizer import CaptionTokenizer
from components.tracking import StageRun, UsedDataset
from components.training.checkpoints import (
    CandidateFolder,
    CheckpointFolder,
    Measure,
    configuration_key,
)
from components.training.distributed import current, with_sync_batch_norm
from components.training.loop import LoopOptions, train
from components.training.optimizer import build_optimizer, chosen_precision
from components.training.profiling import compiled, write_profile
from components.training.schedules import multiplier
from components.training.state import History, Row, TrainingState

UNRELATED_KEYS = {"profile"}  # a checkpoint made with another value is good


def pretrain_model(
    run: StageRun,
    augmentation: params.Augmentation,
    backbone: params.Backbone,
    textual_head: params.TextualHead,
    objective: params.Objective,
    subset: params.Subset,
    optimizer: params.Optimizer,
    schedule: params.Schedule,
    pretrain: params.Pretrain,
    *,
    measure: Measure | None = None,
) -> None:
    """Train, from the newest checkpoint of this very configuration if there is one; write the candidates.

    Several processes may do so together (components.training.distributed); the first one writes, and
    measures candidates.
    """
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
    _require_memory(device, config, optimizer, pretrain, augmentation.crop_size, part_size)
    targets = make_targets(
        objective.name, tokenizer, textual_head.max_caption_length, objective.parallel_share
    )
    train_dataset, val_dataset = _datasets(
        train_store, val_store, augmentation, subset, targets, objective.name, pretrain.seed
    )
    train_dataset.grow_crops(augmentation.crop_sizes, schedule.iterations, pretrain.batch_size)
    collate = partial(collate_targets, lengths=None if by_labels else pretrain.caption_lengths)
    val_batches = val_loader(
        val_dataset, batch_size=part_size, num_workers=num_workers, pin_memory=on_gpu, shard=shard
    )
    sections = (augmentation, backbone, textual_head, objective, subset, optimizer, schedule, pretrain)
    identities = {store.path: identify(store) for store in (train_store, val_store)}
    checkpoints = resume_checkpoints(sections, pretrain.keep_checkpoints, identities, measure)

    torch.manual_seed(pretrain.seed)
    model = build_objective(config)
    if isinstance(model, IdfTokenClassificationObjective | ContrastiveClassificationObjective):
        weights = read_weights(paths.DOCUMENT_FREQUENCIES, tokenizer.vocab_size)
        model.token_weights.copy_(torch.from_numpy(weights))
    if pretrain.start_from is not None:
        path = None if pretrain.start_tokenizer is None else Path(pretrain.start_tokenizer)
        began = start_model(model, config, tokenizer, pretrain.start_from, path)
        if processes.is_first:
            print(began, flush=True)
    if pretrain.sync_batch_norm:
        with_sync_batch_norm(model, device, processes)
    model.to(device).to(
        memory_format=torch.channels_last if pretrain.channels_last else torch.contiguous_format
    )
    preprocessing = Preprocessing(
        augmentation.crop_size, paths.TOKENIZER_MODEL.read_bytes(), antialias=augmentation.antialias
    )
    candidates = CandidateFolder(
        checkpoints.folder / "candidates",
        pretrain.keep_candidates,
        lambda path: save_captioner(path, model, config, preprocessing),
        measure,
    )
    run.uses(
        _used(train_dataset, identities[train_store.path], "training"),
        _used(val_dataset, identities[val_store.path], "validation"),
    )
    run.image("training samples", lambda: picture_of_samples(train_dataset, tokenizer), 0)
    precision = chosen_precision(device, pretrain.precision)
    crop_sizes = train_dataset.crop_sizes
    with compiled(model, pretrain.compile, pretrain.caption_lengths):
        state = train(
            model,
            build_optimizer(model, optimizer),
            multiplier(**schedule.model_dump()),
            _options(optimizer, schedule, pretrain, precision),
            train_batches=lambda done: visit_loader(
                train_dataset,
                collate,
                batch_size=pretrain.batch_size,
                start_iteration=done,
                num_iterations=schedule.iterations,
                num_workers=num_workers,
                pin_memory=on_gpu,
                shard=shard,
            ),
            val_batches=lambda: val_batches,
            checkpoints=checkpoints,
            log=run.log if crop_sizes is None else crop_sizes.logging(run.log),
            candidates=candidates,
            after_validation=_caption_logger(run, model, val_dataset, tokenizer, device),
            profiled=(lambda profiled: log_profile(run, profiled)) if pretrain.profile else None,
            processes=processes,
        )
    if not processes.is_first:
        return
    candidates.publish(paths.CANDIDATES_DIR)
    if crop_sizes is not None:
        for row in state.history.train:
            row["crop_size"] = crop_sizes.at(int(row["iteration"]) - 1)
    tokenize = params.Tokenize(vocab_size=config.vocab_size)
    gpus = [torch.cuda.get_device_name(device)] * processes.count if on_gpu else []
    share = ceiling_share({str(i): s for i, s in enumerate((*sections, tokenize))}, _rate(state), gpus)
    ran = {"precision": precision, **({} if share is None else {"ceiling_share": round(share, 3)})}
    write_results(run, state, train_dataset.selection, model, pretrain.start_from, ran)
    example = collate_targets([val_dataset[0], val_dataset[len(val_dataset) - 1]])
    run.model("captioner", Logits(model), logits_inputs(model, example))
    checkpoints.remove()


def _require_memory(
    device: torch.device,
    config: ModelConfig,
    optimizer: params.Optimizer,
    pretrain: params.Pretrain,
    crop_size: int,
    part_size: int,
) -> None:
    """Refuse a model or a batch that cannot fit, before either is made."""
    copies = 2 + optimizer.num_states  # weights, gradients, and those
    parts = " / pretrain.accumulate" if pretrain.accumulate > 1 else ""
    head, batch = config.textual_head, f"pretrain.batch_size {pretrain.batch_size}{parts}"
    model = f"textual_head.hidden_size {head.hidden_size}, textual_head.num_layers {head.num_layers}"
    require_memory(
        str(device),
        {
            f"the model in training ({model})": copies * model_bytes(config),
            f"a batch ({batch}, augmentation.crop_size {crop_size})": batch_bytes(part_size, crop_size),
        },
    )


def _options(
    optimizer: params.Optimizer, schedule: params.Schedule, pretrain: params.Pretrain, precision: str
) -> LoopOptions:
    return LoopOptions(
        iterations=schedule.iterations,
        validate_every=pretrain.validate_every,
        checkpoint_every=pretrain.checkpoint_every,
        log_every=pretrain.log_every,
        section="pretrain",
        advice="Lower optimizer.backbone_lr or optimizer.head_lr, lengthen schedule.warmup_iterations, or "
        "choose pretrain.precision: fp32 or bf16.",
        data_advice="Give the stage more processor cores, or keep pixels in the stores (lmdb.decoded: true).",
        accumulate=pretrain.accumulate,
        precision=precision,
        channels_last=pretrain.channels_last,
        clip_grad_norm=optimizer.clip_grad_norm,
        freeze_backbone=pretrain.freeze_backbone,
        seed=pretrain.seed,
    )


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
    """Return what logs the model's captions of a few validation images; None if it writes none."""
    if not isinstance(model, CaptioningObjective):
        return None
    captioner = Captioner(model, tokenizer, dataset.transform, device)
    return lambda iteration: run.image(
        "validation captions", lambda: picture_of_captions(captioner, dataset), iteration
    )


def resume_checkpoints(
    sections: tuple[params.Section, ...],
    keep: int,
    identities: dict[Path, Identity],
    measure: Measure | None = None,
) -> CheckpointFolder:
    inputs = {str(path): identity.digest for path, identity in identities.items()}
    if measure:
        inputs["measure"] = measure.key
    for path in (paths.TOKENIZER_MODEL, paths.DOCUMENT_FREQUENCIES):
        inputs[path.stem] = sha256(path) if path.is_file() else ""
    for section in sections:
        if isinstance(section, params.Pretrain):
            inputs |= digests(section.start_from, section.start_tokenizer)
    values = {type(s).__name__: s.model_dump(mode="json", exclude=UNRELATED_KEYS) for s in sections}
    key = configuration_key(values, inputs)
    return CheckpointFolder(paths.SCRATCH_DIR / "pretrain" / key, key, keep)


def log_profile(run: StageRun, profiled: profile) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for path in write_profile(profiled, Path(folder)):
            run.artifact(path, "profile")


def write_results(
    run: StageRun,
    state: TrainingState,
    selection: Selection,
    model: nn.Module,
    start_from: str | None,
    ran: Mapping[str, Any],
) -> None:
    for path in state.history.write_csv(run.output_dir):
        run.artifact(path)
    sizes = {
        "images": len(selection),
        "captions": selection.num_captions,
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    start = {} if start_from is None else {"started_from": redacted(start_from)}
    run.metrics({**summary(state), **ran, **sizes, **start})
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder, "loss.png")
        draw_losses(picture, state.history)
        run.artifact(picture)


def summary(state: TrainingState) -> dict[str, Any]:
    """Return what goes into metrics.json: losses in nats per token, or per image where none is predicted.

    Perplexity is averaged over directions, and absent where no token is predicted, or not always from those
    before it.
    """
    train, val = state.history.train[-1], state.history.val[-1]
    parts = {
        name: value
        for name, value in val.items()
        if name not in ("iteration", "loss") and not name.startswith("voc07_")  # a measure of candidates
    }
    has_perplexity = parts.keys() <= {"captioning_forward", "captioning_backward", "masked_lm"}
    perplexity = {"perplexity": math.exp(min(val["loss"] / len(parts), 700.0))} if has_perplexity else {}
    return {
        "train_loss": train["loss"],
        "val_loss": val["loss"],
        "val": parts,
        **perplexity,
        "best_val_loss": min(row["loss"] for row in state.history.val),
        "iterations": state.iteration,
        "images_seen": state.num_images,
        "seconds": round(state.seconds, 3),
        "images_per_second": round(_rate(state), 2),
        "data_wait_per_second": round(state.history.data_wait, 4),
    }


def _rate(state: TrainingState) -> float:
    return state.num_images / state.seconds


def draw_losses(path: Path, history: History) -> None:
    """Write a PNG: training and validation loss above, learning rates below, by iteration."""
    figure = Figure(figsize=(8.0, 6.0), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    losses, rates = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    losses.plot(*_columns(history.train, "loss"), label="training", linewidth=1)
    losses.plot(*_columns(history.val, "loss"), label="validation", marker="o", markersize=4)
    losses.set(ylabel="loss")
    losses.legend(frameon=False)
    for part in ("backbone", "head"):
        rates.plot(*_columns(history.train, f"{part}_lr"), label=part, linewidth=1)
    rates.set(xlabel="iteration", ylabel="learning rate")
    rates.legend(frameon=False)
    for axes in (losses, rates):
        axes.spines[["top", "right"]].set_visible(False)
    with writing(path) as temporary:
        figure.savefig(temporary, format="png")


def _columns(rows: list[Row], name: str) -> tuple[list[float], list[float]]:
    kept = [row for row in rows if name in row]
    return [row["iteration"] for row in kept], [row[name] for row in kept]


class Logits(nn.Module):
    """Backbone and (forward) textual head of an objective.

    Shape:
        image ``(batch, 3, height, width)`` float32, and for heads that read captions
        caption_tokens ``(batch, length)`` int64 and caption_lengths ``(batch,)`` int64
        -> logits ``(batch, length, vocab_size)``, or ``(batch, vocab_size)`` without captions
    """

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.visual = objective.visual
        self.textual = objective.get_submodule("textual")

    def forward(
        self, image: Tensor, caption_tokens: Tensor | None = None, caption_lengths: Tensor | None = None
    ) -> Tensor:
        """Return logits of the next token at each position, or of the labels.

        Every input has a name of its own: torch.export matches shapes with them one by one.
        """
        caption = () if caption_tokens is None else (caption_tokens, caption_lengths)
        return self.textual(self.visual(image), *caption)


def logits_inputs(objective: Objective, batch: Mapping[str, Any]) -> list[Tensor]:
    """Return what ``Logits(objective)`` takes, from a batch of the loader for this objective."""
    names = ["image", "masked_tokens" if "masked_tokens" in batch else "caption_tokens", "caption_lengths"]
    reads_captions = hasattr(objective.get_submodule("textual"), "embedding")
    return [batch[name] for name in (names if reads_captions else names[:1])]
