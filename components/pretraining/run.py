"""Pretraining: learn a backbone and a head from captioned or labelled images (paper, section 3)."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn

from components import params
from components.captioning.captioner import Captioner
from components.captioning.samples import TRAINING_SAMPLES, caption_samples, picture_of_samples
from components.core import machine, paths
from components.core.errors import InputError, first_line
from components.core.files import sha256
from components.core.memory import batch_bytes, require_memory
from components.data.batch import collate_targets
from components.data.dataset import TrainDataset, ValDataset
from components.data.loader import val_loader, visit_loader
from components.data.record import pack_metadata, unpack_metadata
from components.data.sampling import Shard
from components.data.selection import num_labels, select
from components.data.shards import shards_of_groups
from components.data.store import CaptionStore, Identity, identify
from components.data.tar_visits import stream_images
from components.data.targets import LABEL_TASKS, MakeTargets, make_targets
from components.data.transforms import EvalTransform, TrainTransform
from components.dataset_titles import title_here
from components.objectives.build import ModelConfig, build_objective, model_bytes
from components.objectives.captioning import CaptioningObjective
from components.objectives.contrastive import ContrastiveClassificationObjective
from components.objectives.idf_classification import IdfTokenClassificationObjective
from components.objectives.interface import Objective
from components.objectives.saved import Preprocessing, save_captioner
from components.params.expected_time import ceiling_share, image_cost
from components.pretraining.results import Logits, log_profile, logits_inputs, rate, write_results
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
from components.training.distributed import Processes, current, with_sync_batch_norm
from components.training.loop import LoopOptions, train
from components.training.optimizer import build_optimizer, chosen_precision
from components.training.profiling import compiled
from components.training.schedules import multiplier

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
    stream: params.Stream,
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

    train_store, val_store = _train_store(pretrain, shard, processes), CaptionStore(paths.lmdb_path("val"))
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
    num_pictured = TRAINING_SAMPLES
    if pretrain.shard_groups > 1:
        train_dataset.draw_by_groups(pretrain.shard_groups, pretrain.batch_size, pretrain.accumulate)
        num_pictured = min(num_pictured, part_size)  # others may be on other machines
    streamed = stream_images(train_dataset, stream.mixed_tars) if stream.train else None
    train_dataset.grow_crops(augmentation.crop_sizes, schedule.iterations, pretrain.batch_size)
    collate = partial(collate_targets, lengths=None if by_labels else pretrain.caption_lengths)
    val_batches = val_loader(
        val_dataset, batch_size=part_size, num_workers=num_workers, pin_memory=on_gpu, shard=shard
    )
    learning = (optimizer, schedule, stream, pretrain)
    sections = (augmentation, backbone, textual_head, objective, subset, *learning)
    identities = {store.path: identify(store) for store in (train_store, val_store)}
    checkpoints = resume_checkpoints(sections, pretrain.keep_checkpoints, identities, measure)

    model = _build_model(config, tokenizer, pretrain, device, processes)
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
    run.image("training samples", lambda: picture_of_samples(train_dataset, tokenizer, num_pictured), 0)
    precision = chosen_precision(device, pretrain.precision)
    crop_sizes = train_dataset.crop_sizes

    def measured(iteration: int) -> dict[str, float]:
        """Return what a row of figures tells beside the loop's own."""
        size: dict[str, float] = {} if crop_sizes is None else {"crop_size": crop_sizes.at(iteration)}
        return size if streamed is None else {**size, "fetched_bytes": streamed.fetched_bytes()}

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
            log=run.log,
            figures=measured,
            candidates=candidates,
            after_validation=_caption_logger(run, model, val_dataset, tokenizer, device),
            profiled=(lambda profiled: log_profile(run, profiled)) if pretrain.profile else None,
            processes=processes,
        )
    if not processes.is_first:
        return
    candidates.publish(paths.CANDIDATES_DIR)
    cost = image_cost(backbone.name, augmentation.crop_size, objective.name, textual_head, config.vocab_size)
    gpus = [torch.cuda.get_device_name(device)] * processes.count if on_gpu else []
    share = ceiling_share(cost, rate(state), gpus)
    ran = {"precision": precision, **({} if share is None else {"ceiling_share": round(share, 3)})}
    ran |= {} if streamed is None else streamed.figures()
    write_results(run, state, train_dataset.selection, model, pretrain.start_from, ran)
    example = collate_targets([val_dataset[0], val_dataset[len(val_dataset) - 1]])
    run.model("captioner", Logits(model), logits_inputs(model, example))
    checkpoints.remove()


def _train_store(pretrain: params.Pretrain, shard: Shard, processes: Processes) -> CaptionStore:
    """Return the store; of a store in groups of shards this process needs its own ones on its disk."""
    path = paths.lmdb_path("train")
    store = CaptionStore(path)
    if pretrain.shard_groups == 1 or not store.num_shards:
        return store
    groups = shard.groups(pretrain.shard_groups)
    own = store.shard_metadata(shards_of_groups(groups, pretrain.shard_groups, store.num_shards))
    told = processes.gathered_text(json.dumps({n: pack_metadata(of).decode() for n, of in own.items()}))
    everybody = {int(n): unpack_metadata(of) for text in told for n, of in json.loads(text).items()}
    return CaptionStore(path, everybody)


def _build_model(
    config: ModelConfig,
    tokenizer: CaptionTokenizer,
    pretrain: params.Pretrain,
    device: torch.device,
    processes: Processes,
) -> Objective:
    """Return the objective as it is before the first iteration, on its device."""
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
    return model


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
    """Return what shows the model's captions of a few validation images; None if it writes none."""
    if not isinstance(model, CaptioningObjective):
        return None
    captioner = Captioner(model, tokenizer, dataset.transform, device)

    def show(iteration: int) -> None:
        try:
            picture = caption_samples(captioner, dataset).tell(iteration, paths.CAPTIONS_NOW)
        except (InputError, OSError) as error:  # a beam wider than the vocabulary: training goes on
            print(f"iteration {iteration}: no captions to look at: {first_line(error)}", flush=True)
            return
        run.image("validation captions", lambda: picture, iteration)

    return show


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
        if isinstance(section, params.Stream) and section.train and section.mixed_tars is not None:
            inputs["mixed_tars"] = str(section.mixed_tars)
    values = {
        type(section).__name__: section.model_dump(mode="json", exclude=UNRELATED_KEYS)
        for section in sections
        if not isinstance(section, params.Stream)  # where images are read from changes no result
    }
    key = configuration_key(values, inputs)
    return CheckpointFolder(paths.SCRATCH_DIR / "pretrain" / key, key, keep)
