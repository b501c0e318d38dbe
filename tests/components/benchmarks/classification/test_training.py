import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from components import params
from components.benchmarks.classification import imagenet_linear, inaturalist
from components.benchmarks.classification.heads import ClassificationObjective
from components.benchmarks.classification.training import (
    Machine,
    fit,
    iterations_per_epoch,
    labelled_batches,
    num_iterations,
    rank_classes,
)
from components.core.errors import InputError
from components.sources.readers.types import ClassifiedImages
from components.training.state import TrainingState

PROBE = params.ImagenetLinear(
    seed=4,
    image_size=40,
    crop_size=32,
    crop_scale=(0.5, 1.0),
    batch_size=4,
    epochs=4,
    learning_rate=0.3,
    more_learning_rates=[0.03, 3.0],
    holdout=0.0,
    momentum=0.9,
    precision="fp32",
    validate_every=1,
    checkpoint_every=2,
    log_every=3,
)
FINE = params.Inaturalist(
    **{
        **PROBE.model_dump(exclude={"more_learning_rates", "holdout"}),
        "learning_rate": 0.1,
        "weight_decay": 1e-4,
        "milestones": [2, 3],
        "gamma": 0.1,
        "many_above": 3,
        "few_below": 2,
    }
)


class Killed(Exception):
    """What a kill -9 is to a test: nothing gets a chance to tidy up."""


def backbone() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 8, 8), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.2), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )  # fmt: skip


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClassifiedImages:
    """Noise that is reddish, greenish or bluish."""
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{index}.png" for index in range(10)]
    labels = np.arange(10) % 3
    for path, label in zip(paths, labels, strict=True):
        pixels = rng.integers(0, 120, (40, 50, 3))
        pixels[..., label] += 130
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    return ClassifiedImages(paths, ("red", "green", "blue"), labels)


def run(
    images: ClassifiedImages,
    settings: params.Classification,
    log: Callable[[dict[str, float], int], None] = lambda figures, step: None,
) -> tuple[ClassificationObjective, TrainingState]:
    host = Machine(torch.device("cpu"), num_workers=0)
    if isinstance(settings, params.ImagenetLinear):
        objective = imagenet_linear.build_probe(backbone(), 6, 3, settings)
        schedule, weight_decay = imagenet_linear.schedule(10, settings), 0.0
    else:
        objective = inaturalist.build_finetuning(backbone(), 6, 3, settings.seed)
        schedule, weight_decay = inaturalist.schedule(10, settings), 1e-4
    state, checkpoints = fit(
        objective,
        images,
        labelled_batches(images, settings, host),
        stage="a_benchmark",
        settings=settings,
        weight_decay=weight_decay,
        schedule=schedule,
        inputs={"backbone": "1"},
        host=host,
        log=log,
    )
    checkpoints.remove()
    return objective, state


def timeless(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if "second" not in name} for row in rows]


@pytest.mark.parametrize("settings", [PROBE, FINE], ids=["probe", "finetune"])
@pytest.mark.parametrize("killed_at", [3, 6, 9])
def test_a_killed_training_goes_on_bit_for_bit(
    images: ClassifiedImages, settings: params.Classification, killed_at: int
) -> None:
    def kill(_figures: dict[str, float], step: int) -> None:
        if step == killed_at:
            raise Killed

    whole, whole_state = run(images, settings)
    with pytest.raises(Killed):
        run(images, settings, kill)
    rows: list[int] = []
    resumed, resumed_state = run(images, settings, lambda _figures, step: rows.append(step))
    assert resumed_state.iteration == whole_state.iteration == 12
    expected = whole.state_dict()
    assert all(value.equal(expected[name]) for name, value in resumed.state_dict().items())
    assert timeless(resumed_state.history.train) == timeless(whole_state.history.train)
    assert resumed_state.history.val == whole_state.history.val
    assert {3, 6, 9, 12} == set(rows)  # what was logged before the kill, too


def test_another_configuration_starts_afresh(images: ClassifiedImages) -> None:
    def kill(_figures: dict[str, float], step: int) -> None:
        if step == 6:
            raise Killed

    with pytest.raises(Killed):
        run(images, PROBE, kill)
    changed = PROBE.model_copy(update={"more_learning_rates": [0.03, 5.0]})
    steps: list[int] = []
    run(images, changed, lambda _figures, step: steps.append(step))
    assert steps[0] == 3


@pytest.mark.parametrize("settings", [PROBE, FINE], ids=["probe", "finetune"])
def test_colours_are_learned(images: ClassifiedImages, settings: params.Classification) -> None:
    longer = settings.model_copy(update={"epochs": 30})
    objective, state = run(images, longer)
    val = state.history.val
    assert val[-1]["loss"] < 0.5 * val[0]["loss"]
    assert len(val) == 30
    host = Machine(torch.device("cpu"), 0)
    ranked = rank_classes(objective, labelled_batches(images, longer, host)(), host.device, "fp32")
    assert ranked.shape == (len(objective.names), 10, 3)
    top1 = 100 * (ranked[0, :, 0] == images.labels).mean()
    assert top1 == 100
    name = "top1" + objective.names[0]
    assert val[-1][name] == pytest.approx(top1)


@pytest.mark.parametrize(
    ("learning_rate", "more", "bad"),
    [
        (0.3, [0.03, 1e30], [2]),
        (0.3, [1e39, 0.03], [1]),  # float32 has no such factor
        (1e30, [0.3, 0.03], [0]),  # the paper's
        (0.3, [1e30, 0.03, 1e25], [1, 3]),
    ],
)
def test_a_head_that_diverges_leaves_the_others_alone(
    images: ClassifiedImages, learning_rate: float, more: list[float], bad: list[int]
) -> None:
    settings = PROBE.model_copy(update={"learning_rate": learning_rate, "more_learning_rates": more})
    objective, state = run(images, settings)
    assert np.flatnonzero(objective.diverged_heads()).tolist() == bad
    good = [rate for head, rate in enumerate(settings.learning_rates) if head not in bad]
    alone = PROBE.model_copy(update={"learning_rate": good[0], "more_learning_rates": good[1:]})
    expected, expected_state = run(images, alone)
    kept = [head for head in range(len(settings.learning_rates)) if head not in bad]
    torch.testing.assert_close(objective.heads.weight[kept], expected.heads.weight, rtol=1e-4, atol=1e-5)
    for row, other in zip(state.history.val, expected_state.history.val, strict=True):
        assert row == pytest.approx(other, rel=1e-3, abs=1e-3)  # nothing of the bad ones in it
    names = [objective.names[head] for head in bad]
    for row in state.history.train[1:]:
        assert math.isfinite(row["loss"])
        assert not [figure for figure in row if figure.endswith(tuple(names))]


def test_a_head_that_diverged_stays_so_after_a_resume(images: ClassifiedImages) -> None:
    def kill(_figures: dict[str, float], step: int) -> None:
        if step == 6:
            raise Killed

    settings = PROBE.model_copy(update={"more_learning_rates": [1e30, 0.03]})
    whole, whole_state = run(images, settings)
    with pytest.raises(Killed):
        run(images, settings, kill)
    resumed, state = run(images, settings)
    assert resumed.diverged_heads() == whole.diverged_heads() == [False, True, False]
    assert torch.equal(resumed.heads.weight[[0, 2]], whole.heads.weight[[0, 2]])
    assert state.history.val == whole_state.history.val


def test_a_probe_ends_when_all_heads_diverge(images: ClassifiedImages) -> None:
    settings = PROBE.model_copy(update={"learning_rate": 1e30, "more_learning_rates": [1e35]})
    with pytest.raises(InputError, match=r"not finite: .*Lower a_benchmark\.learning_rate"):
        run(images, settings)


@pytest.mark.parametrize("settings", [PROBE, FINE], ids=["probe", "finetune"])
def test_training_at_fp16_goes_on_after_an_overflow_at_its_first_step(
    images: ClassifiedImages, settings: params.Classification, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole loop, with torch's scaler for CPUs; what it skips costs one step and nothing else."""
    monkeypatch.setattr("components.training.loop.check_precision", lambda *_: None)
    monkeypatch.setattr(torch, "empty_like", lambda like, **options: torch.full_like(like, 1e30, **options))
    monkeypatch.setattr(
        "components.training.state.grad_scaler",
        lambda device, _precision: torch.amp.GradScaler(device.type, init_scale=2.0**127),
    )
    longer = settings.model_copy(update={"precision": "fp16", "epochs": 80})
    objective, state = run(images, longer)
    assert state.scaler.get_scale() < 2.0**127  # it has overflown
    assert "grad_norm" not in state.history.train[0]
    assert all(torch.isfinite(value).all() for value in objective.parameters())
    assert state.history.val[-1]["loss"] < 0.8 * state.history.val[0]["loss"]


def test_infinite_losses_name_the_key(images: ClassifiedImages) -> None:
    with pytest.raises(InputError, match=r"not finite: .*Lower a_benchmark\.learning_rate"):
        run(images, FINE.model_copy(update={"learning_rate": 1e30, "epochs": 9}))


def test_precision_without_a_gpu_names_the_key(images: ClassifiedImages) -> None:
    with pytest.raises(InputError, match=r"^a_benchmark\.precision: fp16 needs a GPU"):
        run(images, PROBE.model_copy(update={"precision": "fp16"}))


def test_schedules_have_the_papers_lengths() -> None:
    paper: dict[str, Any] = {"batch_size": 256, "epochs": 100}
    assert iterations_per_epoch(1_281_167, 256) == 5005
    settings = PROBE.model_copy(update=paper)
    assert num_iterations(1_281_167, settings) == 500_500
    factor = imagenet_linear.schedule(1_281_167, settings)
    assert factor(0) == 1.0
    assert factor(250_250) == pytest.approx(0.5)
    assert factor(500_500) == pytest.approx(0.0)


def test_the_rate_of_fine_tuning_falls_at_the_papers_epochs() -> None:
    settings = FINE.model_copy(update={"batch_size": 256, "epochs": 100, "milestones": [70, 90]})
    assert num_iterations(437_513, settings) == 171_000
    factor = inaturalist.schedule(437_513, settings)
    assert [factor(step) for step in (0, 119_699, 119_700, 153_899, 153_900, 170_999)] == pytest.approx(
        [1, 1, 0.1, 0.1, 0.01, 0.01]
    )
