"""Pretraining: learn a backbone and a head from captioned or labelled images (paper, section 3)."""

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from components import params
from components.captioning.captioner import Captioner
from components.captioning.samples import TRAINING_SAMPLES, caption_samples, picture_of_samples
from components.core import machine, paths
from components.core.errors import InputError, first_line
from components.core.files import sha256
from components.core.memory import batch_bytes, require_memory
from components.data.batch import Batch, collate_targets
from components.data.dataset import TrainDataset, ValDataset
from components.data.loader import val_loader, visit_loader
from components.data.record import pack_metadata, unpack_metadata
from components.data.sampling import Shard
from components.data.selection import num_labels, select
from components.data.shards import shards_of_groups
from components.data.store import CaptionStore, Identity, identify
from components.data.tar_visits import stream_images
from components.data.targets import LABEL_TASKS, make_targets
from components.data.transforms import EvalTransform, TrainTransform
from components.dataset_titles import title_here
from components.objectives.build import ModelConfig, build_objective, model_bytes
from components.objectives.captioning import CaptioningObjective
from components.objectives.classification import IdfTokenClassificationObjective
from components.objectives.contrastive import ContrastiveClassificationObjective
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
from components.training.optimizer import build_optimizer, chosen_precision, multiplier
from components.training.profiling import compiled
from components.training.state import TrainingState

UNRELATED_KEYS = {"profile"}  # a checkpoint made with another value is good


class Sections(NamedTuple):
    """Sections of params.yaml that pretraining reads."""

    augmentation: params.Augmentation
    backbone: params.Backbone
    textual_head: params.TextualHead
    objective: params.Objective
    subset: params.Subset
    optimizer: params.Optimizer
    schedule: params.Schedule
    stream: params.Stream
    pretrain: params.Pretrain


def pretrain_model(run: StageRun, sections: Sections, measure: Measure | None = None) -> None:
    """Train, from the newest checkpoint of this very configuration if there is one; write the candidates.

    Several processes may do so together (components.training.distributed); the first one writes, and
    measures candidates.
    """
    pretrain = sections.pretrain
    device = torch.device(machine.device_name())
    torch.backends.cudnn.benchmark = device.type == "cuda"
    processes = current()
    shard = Shard(processes.rank, processes.count, pretrain.accumulate)
    part_size = shard.batch_size(pretrain.batch_size)

    stores = _train_store(pretrain, shard, processes), CaptionStore(paths.lmdb_path("val"))
    tokenizer = CaptionTokenizer(paths.TOKENIZER_MODEL)
    config = _model_config(sections, stores, tokenizer)
    _require_memory(device, config, sections, part_size)
    data = _Data(sections, stores, tokenizer, shard, device)
    identities = {store.path: identify(store) for store in stores}
    checkpoints = resume_checkpoints(sections, identities, measure)
    model = _build_model(config, tokenizer, pretrain, device, processes)
    candidates = _candidate_folder(checkpoints, model, config, sections, measure)
    run.uses(
        _used(data.train, identities[stores[0].path], "training"),
        _used(data.val, identities[stores[1].path], "validation"),
    )
    # Images of other groups may be on other machines.
    pictured = TRAINING_SAMPLES if pretrain.shard_groups == 1 else min(TRAINING_SAMPLES, part_size)
    run.image("training samples", lambda: picture_of_samples(data.train, tokenizer, pictured), 0)

    precision = chosen_precision(device, pretrain.precision)
    with compiled(model, pretrain.compile, pretrain.caption_lengths):
        state = train(
            model,
            build_optimizer(model, sections.optimizer),
            multiplier(**sections.schedule.model_dump()),
            _options(sections, precision),
            train_batches=data.train_batches,
            val_batches=lambda: data.val_batches,
            checkpoints=checkpoints,
            log=run.log,
            figures=data.figures,
            candidates=candidates,
            after_validation=_caption_logger(run, model, data.val, tokenizer, device),
            profiled=(lambda profiled: log_profile(run, profiled)) if pretrain.profile else None,
            processes=processes,
        )
    if processes.is_first:
        candidates.publish(paths.CANDIDATES_DIR)
        ran = {"precision": precision} | _ceiling_share(config, sections, state, device, processes)
        ran |= {} if data.streamed is None else data.streamed.figures()
        write_results(run, state, data.train.selection, model, pretrain.start_from, ran)
        example = collate_targets([data.val[0], data.val[len(data.val) - 1]])
        run.model("captioner", Logits(model), logits_inputs(model, example))
        checkpoints.remove()


class _Data:
    """The images that a run learns from and is validated on, and this process's batches of them."""

    def __init__(
        self,
        sections: Sections,
        stores: tuple[CaptionStore, CaptionStore],
        tokenizer: CaptionTokenizer,
        shard: Shard,
        device: torch.device,
    ) -> None:
        train_store, val_store = stores
        augmentation, pretrain, objective = sections.augmentation, sections.pretrain, sections.objective
        self.shard = shard
        self.batch_size, self.iterations = pretrain.batch_size, sections.schedule.iterations
        self.num_workers = machine.loading_workers(device.type)
        targets = make_targets(
            objective.name, tokenizer, sections.textual_head.max_caption_length, objective.parallel_share
        )
        chosen = select(train_store, objective.name, sections.subset)
        transform = EvalTransform(augmentation.crop_size, augmentation.crop_size, augmentation.antialias)
        self.train = TrainDataset(
            train_store, chosen, TrainTransform(augmentation), targets, seed=pretrain.seed
        )
        self.val = ValDataset(val_store, select(val_store, objective.name), transform, targets)
        if pretrain.shard_groups > 1:
            self.train.draw_by_groups(pretrain.shard_groups, pretrain.batch_size, pretrain.accumulate)
        self.streamed = (
            stream_images(self.train, sections.stream.mixed_tars) if sections.stream.train else None
        )
        self.train.grow_crops(augmentation.crop_sizes, self.iterations, self.batch_size)
        has_captions = objective.name not in LABEL_TASKS
        self.collate = partial(collate_targets, lengths=pretrain.caption_lengths if has_captions else None)
        self.val_batches = val_loader(
            self.val,
            batch_size=shard.batch_size(self.batch_size),
            num_workers=self.num_workers,
            shard=shard,
        )

    def train_batches(self, done: int) -> Iterator[Batch]:
        """Give the batches that follow ``done`` iterations."""
        return visit_loader(
            self.train,
            self.collate,
            batch_size=self.batch_size,
            start_iteration=done,
            num_iterations=self.iterations,
            num_workers=self.num_workers,
            shard=self.shard,
        )

    def figures(self, iteration: int) -> dict[str, float]:
        """Return what a logged row shows beside the loop's own."""
        figures: dict[str, float] = {}
        if self.train.crop_sizes is not None:
            figures["crop_size"] = self.train.crop_sizes.at(iteration)
        if self.streamed is not None:
            figures["fetched_bytes"] = self.streamed.fetched_bytes()
        return figures


def _train_store(pretrain: params.Pretrain, shard: Shard, processes: Processes) -> CaptionStore:
    """Return the store; of a store in groups of shards this process needs its own ones on its disk."""
    path = paths.lmdb_path("train")
    store = CaptionStore(path)
    if pretrain.shard_groups == 1 or not store.num_shards:
        return store
    groups = shard.groups(pretrain.shard_groups)
    own = store.shard_metadata(shards_of_groups(groups, pretrain.shard_groups, store.num_shards))
    gathered = processes.gathered_text(json.dumps({n: pack_metadata(of).decode() for n, of in own.items()}))
    all_shards = {int(n): unpack_metadata(of) for text in gathered for n, of in json.loads(text).items()}
    return CaptionStore(path, all_shards)


def _model_config(
    sections: Sections, stores: tuple[CaptionStore, CaptionStore], tokenizer: CaptionTokenizer
) -> ModelConfig:
    by_labels = sections.objective.name in LABEL_TASKS
    return ModelConfig(
        backbone=sections.backbone,
        textual_head=sections.textual_head,
        objective=sections.objective,
        vocab_size=num_labels(*stores) if by_labels else tokenizer.vocab_size,
    )


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


def _require_memory(device: torch.device, config: ModelConfig, sections: Sections, part_size: int) -> None:
    """Refuse a model or a batch that cannot fit, before either is made."""
    pretrain, crop_size = sections.pretrain, sections.augmentation.crop_size
    copies = 2 + sections.optimizer.num_states  # weights, gradients, and those
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


def _candidate_folder(
    checkpoints: CheckpointFolder,
    model: Objective,
    config: ModelConfig,
    sections: Sections,
    measure: Measure | None,
) -> CandidateFolder:
    augmentation = sections.augmentation
    preprocessing = Preprocessing(
        augmentation.crop_size, paths.TOKENIZER_MODEL.read_bytes(), antialias=augmentation.antialias
    )
    return CandidateFolder(
        checkpoints.folder / "candidates",
        sections.pretrain.keep_candidates,
        lambda path: save_captioner(path, model, config, preprocessing),
        measure,
    )


def _options(sections: Sections, precision: str) -> LoopOptions:
    pretrain = sections.pretrain
    return LoopOptions(
        iterations=sections.schedule.iterations,
        validate_every=pretrain.validate_every,
        checkpoint_every=pretrain.checkpoint_every,
        log_every=pretrain.log_every,
        section="pretrain",
        advice="Lower optimizer.backbone_lr or optimizer.head_lr, lengthen schedule.warmup_iterations, or "
        "choose pretrain.precision: fp32 or bf16.",
        data_advice="Give the stage more processor cores, or "
        + (
            "room for all tars (stream.cache_gib), or keep images in the store (stream.train: false)."
            if sections.stream.train
            else "keep pixels in the stores (lmdb.decoded: true)."
        ),
        accumulate=pretrain.accumulate,
        precision=precision,
        channels_last=pretrain.channels_last,
        clip_grad_norm=sections.optimizer.clip_grad_norm,
        freeze_backbone=pretrain.freeze_backbone,
        seed=pretrain.seed,
    )


def _ceiling_share(
    config: ModelConfig, sections: Sections, state: TrainingState, device: torch.device, processes: Processes
) -> dict[str, float]:
    """Return the share of the GPUs' arithmetic that the run used, if they are known ones."""
    crop_size, name = sections.augmentation.crop_size, config.objective.name
    cost = image_cost(config.backbone.name, crop_size, name, config.textual_head, config.vocab_size)
    gpus = [torch.cuda.get_device_name(device)] * processes.count if device.type == "cuda" else []
    share = ceiling_share(cost, rate(state), gpus)
    return {} if share is None else {"ceiling_share": round(share, 3)}


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
            picture = caption_samples(captioner, dataset).show(iteration, paths.CAPTIONS_NOW)
        except (InputError, OSError) as error:  # a beam wider than the vocabulary: training goes on
            print(f"iteration {iteration}: no captions to look at: {first_line(error)}", flush=True)
            return
        run.image("validation captions", lambda: picture, iteration)

    return show


def resume_checkpoints(
    sections: Sections, identities: Mapping[Path, Identity], measure: Measure | None = None
) -> CheckpointFolder:
    """Return the folder of the checkpoints that go on with just this configuration and these inputs."""
    pretrain, stream = sections.pretrain, sections.stream
    inputs = {str(path): identity.digest for path, identity in identities.items()}
    if measure:
        inputs["measure"] = measure.key
    for path in (paths.TOKENIZER_MODEL, paths.DOCUMENT_FREQUENCIES):
        inputs[path.stem] = sha256(path) if path.is_file() else ""
    inputs |= digests(pretrain.start_from, pretrain.start_tokenizer)
    if stream.train and stream.mixed_tars is not None:
        inputs["mixed_tars"] = str(stream.mixed_tars)
    values = {
        type(section).__name__: section.model_dump(mode="json", exclude=UNRELATED_KEYS)
        for section in sections
        if section is not stream  # where images are read from changes no result
    }
    key = configuration_key(values, inputs)
    return CheckpointFolder(paths.SCRATCH_DIR / "pretrain" / key, key, pretrain.keep_checkpoints)
