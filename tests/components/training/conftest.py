"""A model and a recipe small enough to train in a unit test, and the sections they start from."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from components import params
from components.models.textual_head import TransformerTextualHead
from components.objectives.captioning import BicaptioningObjective
from components.training.checkpoints import CandidateFolder, CheckpointFolder, Measure
from components.training.distributed import SINGLE_PROCESS, Processes, with_sync_batch_norm
from components.training.loop import LoopOptions, train
from components.training.optimizer import build_optimizer, multiplier
from components.training.profiling import compiled
from components.training.state import TrainingState

VOCAB_SIZE = 40
BATCH_SIZE = 3
OPTIMIZER = params.Optimizer(
    name="sgd",
    backbone_lr=0.2,
    head_lr=0.001,
    momentum=0.9,
    betas=(0.9, 0.999),
    epsilon=1e-8,
    weight_decay=1e-4,
    no_weight_decay=".*textual.(embedding|transformer).*(norm.*|bias)",
    lookahead_steps=5,
    lookahead_alpha=0.5,
    clip_grad_norm=10.0,
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors are tiny here: threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def optimizer_params() -> params.Optimizer:
    return OPTIMIZER


@pytest.fixture
def schedule_params() -> params.Schedule:
    return params.Schedule(
        name="cosine", iterations=100, warmup_iterations=10, milestones=[40, 70], gamma=0.1
    )


class NoiseCaptions(Dataset):
    """Batches by iteration: noise images and tokens that depend on the iteration alone."""

    def __init__(self, start: int, stop: int, batch_size: int) -> None:
        self.iterations = range(start, stop)
        self.batch_size = batch_size

    def __len__(self) -> int:
        return len(self.iterations)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return noise_batch(self.iterations[index], self.batch_size)


def noise_batch(iteration: int, batch_size: int = BATCH_SIZE, length: int = 6) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1000 + iteration)
    tokens = torch.randint(4, VOCAB_SIZE, (batch_size, length), generator=generator)
    image = torch.randn(batch_size, 3, 32, 32, generator=generator)
    lengths = torch.full((batch_size,), length)
    lengths[: batch_size // 2] = 3  # so that a mean of means is not the mean
    is_padding = torch.arange(length) >= lengths.unsqueeze(1)
    order = torch.where(is_padding, torch.arange(length), lengths.unsqueeze(1) - 1 - torch.arange(length))
    tokens = tokens.masked_fill(is_padding, 0)
    return {
        "image": image,
        "image_id": [f"noise/{iteration}_{row}" for row in range(batch_size)],
        "caption_tokens": tokens,
        "noitpac_tokens": tokens.gather(1, order),
        "caption_lengths": lengths,
    }


def tiny_objective(seed: int = 0, is_random: bool = True) -> BicaptioningObjective:
    """Bicaptioning over a backbone of one convolution.

    Batch normalisation and dropout are left out unless ``is_random``: they depend on who works on what.
    """
    torch.manual_seed(seed)
    visual = nn.Sequential()
    visual.add_module("conv", nn.Conv2d(3, 8, kernel_size=8, stride=8, bias=False))
    dropout = 0.0
    if is_random:
        visual.add_module("bn", nn.BatchNorm2d(8))
        dropout = 0.1
    textual = TransformerTextualHead(8, VOCAB_SIZE, 64, ffn_size=64, dropout=dropout, max_caption_length=8)
    return BicaptioningObjective(visual, textual)


@dataclass
class Trainer:
    """A short run with everything that a test may want to change."""

    folder: Path
    optimizer: params.Optimizer
    num_iterations: int = 7
    num_workers: int = 0
    batch_size: int = BATCH_SIZE
    is_random: bool = True
    processes: Processes = SINGLE_PROCESS
    device: str = "cpu"
    pretrain: dict[str, Any] = field(default_factory=dict)
    before_batch: Callable[[int], None] = lambda iteration: None
    change_batch: Callable[[int, dict[str, Any]], dict[str, Any]] = lambda iteration, batch: batch
    after_validation: Callable[[int], None] | None = None
    profiled: Callable[[Any], None] | None = None
    measure: Measure | None = None
    rows: list[tuple[dict[str, float], int]] = field(default_factory=list)

    def with_(self, **changes: Any) -> "Trainer":
        return replace(self, rows=[], **changes)

    @property
    def checkpoints(self) -> CheckpointFolder:
        return CheckpointFolder(self.folder, "key", self.settings.keep_checkpoints)

    @property
    def candidates(self) -> CandidateFolder:
        """Files that hold nothing: the loop decides which there are."""
        keep = self.settings.keep_candidates
        return CandidateFolder(self.folder / "candidates", keep, _write_nothing, self.measure)

    @property
    def settings(self) -> params.Pretrain:
        values = {
            "seed": 0,
            "batch_size": self.batch_size,
            "accumulate": 1,
            "sync_batch_norm": False,
            "precision": "fp32",
            "channels_last": True,
            "compile": False,
            "caption_lengths": None,
            "validate_every": 5,
            "checkpoint_every": 3,
            "keep_checkpoints": 2,
            "keep_candidates": 2,
            "measure_candidates": False,
            "log_every": 2,
            "profile": False,
            "start_from": None,
            "start_tokenizer": None,
            "freeze_backbone": 0,
        }
        return params.Pretrain(**(values | self.pretrain))

    def objective(self) -> BicaptioningObjective:
        """As a run starts with it."""
        return tiny_objective(is_random=self.is_random)

    def batches(self, start: int) -> Iterator[dict[str, Any]]:
        dataset = NoiseCaptions(start, self.num_iterations, self.batch_size)
        loader = DataLoader(dataset, batch_size=None, num_workers=self.num_workers)
        for iteration, batch in zip(range(start, self.num_iterations), loader, strict=True):
            self.before_batch(iteration)
            yield from self._shares(self.change_batch(iteration, batch))

    def _shares(self, batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """This process's parts of an iteration, dealt as the loader deals them."""
        num_parts = self.settings.accumulate * self.processes.count
        size = len(batch["image"]) // num_parts
        for part in range(self.processes.rank, num_parts, self.processes.count):
            yield {name: values[part * size : (part + 1) * size] for name, values in batch.items()}

    def run(self) -> TrainingState:
        settings, device = self.settings, torch.device(self.device)
        objective = self.objective()
        if settings.sync_batch_norm:
            with_sync_batch_norm(objective, device, self.processes)
        objective.to(device).to(memory_format=torch.channels_last)
        options = LoopOptions(
            iterations=self.num_iterations,
            validate_every=settings.validate_every,
            checkpoint_every=settings.checkpoint_every,
            log_every=settings.log_every,
            section="pretrain",
            advice="Lower optimizer.backbone_lr.",
            accumulate=settings.accumulate,
            precision=settings.precision,
            clip_grad_norm=self.optimizer.clip_grad_norm,
            freeze_backbone=settings.freeze_backbone,
            seed=settings.seed,
        )
        with compiled(objective, settings.compile, settings.caption_lengths):
            return train(
                objective,
                build_optimizer(objective, self.optimizer),
                multiplier("cosine", self.num_iterations, warmup_iterations=2),
                options,
                train_batches=self.batches,
                val_batches=self.val_batches,
                checkpoints=self.checkpoints,
                log=lambda figures, step: self.rows.append((figures, step)),
                candidates=self.candidates,
                after_validation=self.after_validation,
                profiled=self.profiled if settings.profile else None,
                processes=self.processes,
            )

    def val_batches(self) -> list[dict[str, Any]]:
        whole = [noise_batch(-1), noise_batch(-2, batch_size=2, length=8), noise_batch(-3)]
        return whole[self.processes.rank :: self.processes.count]


def results(state: TrainingState) -> dict[str, Any]:
    """What runs are compared by, as JSON has it; without the time they took."""
    train = [
        {name: value for name, value in row.items() if "second" not in name} for row in state.history.train
    ]
    return {
        "weights": {name: weight.tolist() for name, weight in state.objective.state_dict().items()},
        "train": train,
        "val": state.history.val,
        "num_images": state.num_images,
    }


@pytest.fixture(name="results")
def results_fixture() -> Callable[[TrainingState], dict[str, Any]]:
    return results


def _write_nothing(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


@pytest.fixture
def trainer(tmp_path: Path) -> Trainer:
    return new_trainer(tmp_path / "checkpoints")


def new_trainer(folder: Path) -> Trainer:
    return Trainer(folder, OPTIMIZER.model_copy(update={"head_lr": 0.05, "lookahead_steps": 3}))
