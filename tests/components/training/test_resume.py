"""A run that stops and goes on is the run that did not: bit for bit, and only with its whole state."""

import copy
import itertools
import os
import signal
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from components.training.checkpoints import Measure
from components.training.state import PARTS, TrainingState

NUM_ITERATIONS = 9
STOP_AFTER = 5  # between two rows of the log, two pulls of Lookahead, two changes of the loss scale


@pytest.fixture
def run(trainer, monkeypatch: pytest.MonkeyPatch):
    """A run in which every part of the state matters: a clock that ticks, a loss scale that shows."""
    for module in ("loop", "metrics"):
        tick = itertools.count().__next__
        clock = SimpleNamespace(perf_counter=tick, process_time=tick, monotonic=time.monotonic)
        monkeypatch.setattr(f"components.training.{module}.time", clock)
    monkeypatch.setattr("components.training.loop.check_precision", lambda *_: None)
    monkeypatch.setattr("components.training.loop.autocast", lambda *_: nullcontext())
    monkeypatch.setattr("components.training.state.grad_scaler", _growing_scaler)
    often = {"precision": "fp16", "log_every": 2, "validate_every": 2, "keep_candidates": 1}
    return trainer.with_(num_iterations=NUM_ITERATIONS, pretrain=often)


def _growing_scaler(device: torch.device, _precision: str) -> torch.amp.GradScaler:
    """So small that gradients lose bits by it, and doubled at every second step: weights tell its scale."""
    return torch.amp.GradScaler(device.type, init_scale=2.0**-126, growth_interval=2)


def outcome(run, state: TrainingState) -> dict[str, Any]:
    """All that a run leaves."""
    return {
        "weights": {name: tensor.tolist() for name, tensor in state.objective.state_dict().items()},
        "train": state.history.train,
        "val": state.history.val,
        "candidates": list(run.candidates.paths()),
        "num_images": state.num_images,
        "seconds": state.seconds,
    }


def stopped(run, after: int, number: int = signal.SIGTERM):
    """The run, stopped by a signal after some iterations; its checkpoint is the newest one."""

    def ask(iteration: int) -> None:
        if iteration == after:
            os.kill(os.getpid(), number)

    with pytest.raises(KeyboardInterrupt):
        run.with_(before_batch=ask).run()
    assert run.checkpoints.latest().iteration == after
    torch.manual_seed(999)  # a new process draws from elsewhere
    return run


Story = tuple[dict[str, Any], dict[str, Any], dict[str, Any]]
_told: list[Story] = []


@pytest.fixture
def story(run, tmp_path: Path) -> Story:
    """What the whole run leaves, its state at the start, and that after STOP_AFTER iterations; run once."""
    if not _told:
        whole = run.with_(folder=tmp_path / "whole")
        expected = outcome(whole, whole.run())
        start = stopped(run.with_(folder=tmp_path / "start"), 0).checkpoints.latest().state
        state = stopped(run.with_(folder=tmp_path / "stopped"), STOP_AFTER).checkpoints.latest().state
        _told.append((expected, start, state))
    return copy.deepcopy(_told[0])


@pytest.mark.parametrize("after", range(NUM_ITERATIONS))
def test_goes_on_bit_by_bit_at_any_iteration(run, story: Story, after: int) -> None:
    num_workers, number = ((0, signal.SIGINT), (2, signal.SIGTERM))[after % 2]
    resumed = stopped(run.with_(num_workers=num_workers), after, number)
    assert outcome(resumed, resumed.run()) == story[0]
    logged = [step for figures, step in resumed.rows if "train/loss" in figures]
    assert logged == [2, 4, 6, 8, 9]


SCORES = {2: 5.0, 4: 9.0, 6: 7.0, 8: 1.0, 9: 3.0}


def drawing_score(path: Path) -> dict[str, float]:
    """A figure of each validation's file; it draws numbers, as a measure that loads images does."""
    torch.rand(())
    return {"score": SCORES[int(path.stem.removeprefix("iteration_"))]}


@pytest.mark.parametrize("after", [3, 4, 5, 8])
def test_the_best_by_a_measure_is_the_same_after_a_stop(run, story: Story, after: int) -> None:
    measured = stopped(run.with_(measure=Measure("key", drawing_score)), after)
    left = outcome(measured, measured.run())
    assert {row["iteration"]: row["score"] for row in left["val"]} == SCORES
    assert {step: figures["val/score"] for figures, step in measured.rows if "val/score" in figures} == SCORES
    assert set(story[0]["candidates"]) < set(left["candidates"]) == {*story[0]["candidates"], 4}
    assert left["weights"] == story[0]["weights"]  # measuring changes nothing in training


@pytest.mark.parametrize(
    "part",
    [
        *((name,) for name in PARTS),
        *(("optimizer", name) for name in ("inner", "slow_weights", "counter")),
        ("scaler", "scale"),
        ("scaler", "_growth_tracker"),
        ("history", "train"),
        ("history", "val"),
    ],
    ids=".".join,
)
def test_every_part_of_the_state_matters(run, story: Story, part: tuple[str, ...]) -> None:
    """A part that is as it was at the start, as if it had not been saved, changes what comes out."""
    expected, start, state = story
    *above, name = part
    holder, source = state, start
    for key in above:
        holder, source = holder[key], source[key]
    holder[name] = source[name]
    run.checkpoints.save(STOP_AFTER, state)
    torch.manual_seed(999)
    assert outcome(run, run.run()) != expected


@pytest.mark.parametrize("after", [2, 4, 6])
def test_a_frozen_backbone_waits_for_its_iteration(run, tmp_path: Path, after: int) -> None:
    """Weights and running statistics stay for four iterations, then move; resumed before, then and later."""
    frozen = run.with_(pretrain=run.pretrain | {"freeze_backbone": 4})
    start = frozen.objective().visual.state_dict()
    whole = frozen.with_(folder=tmp_path / "whole")
    expected = outcome(whole, whole.run())
    resumed = stopped(frozen, after)
    visual = {
        k.removeprefix("visual."): v for k, v in resumed.checkpoints.latest().state["objective"].items()
    }
    assert (after <= 4) == all(torch.equal(visual[name], value) for name, value in start.items())
    assert outcome(resumed, resumed.run()) == expected
