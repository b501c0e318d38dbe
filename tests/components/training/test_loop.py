import math
import os
import signal
from typing import Any

import pytest
import torch

from components.core.errors import InputError
from components.training.validation import validate


def _weights(state) -> dict[str, torch.Tensor]:
    return state.objective.state_dict()


def _equal(one, other) -> bool:
    return all(torch.equal(_weights(one)[name], tensor) for name, tensor in _weights(other).items())


def _stop_at(iteration: int, number: int = signal.SIGINT):
    return lambda at: os.kill(os.getpid(), number) if at == iteration else None


def test_stopping_restores_the_signal_handlers(trainer) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)]
    with pytest.raises(KeyboardInterrupt):
        trainer.with_(before_batch=_stop_at(0)).run()
    after = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)]
    assert after == before


def test_logging_validation_and_checkpoints_do_not_change_the_weights(trainer, tmp_path) -> None:
    often = {"log_every": 1, "validate_every": 1, "checkpoint_every": 1}
    seldom = {"log_every": 100, "validate_every": 100, "checkpoint_every": 100}
    states = [
        trainer.with_(folder=tmp_path / name, pretrain=every).run()
        for name, every in [("often", often), ("seldom", seldom)]
    ]
    assert _equal(*states)
    assert [row["iteration"] for row in states[0].history.val] == list(range(1, 8))
    assert [row["iteration"] for row in states[1].history.val] == [7]


def test_what_follows_a_validation_changes_no_weights(trainer, tmp_path, monkeypatch) -> None:
    models = []
    monkeypatch.setattr("components.training.loop.validate", _spied(models))
    seen = []

    def draw(iteration: int) -> None:
        torch.rand(3)  # as captions that are sampled would
        seen.append((iteration, models[-1].training))

    often = {"validate_every": 3}
    states = [
        trainer.with_(folder=tmp_path / name, pretrain=often, after_validation=drawing).run()
        for name, drawing in [("drawing", draw), ("silent", None)]
    ]
    assert seen == [(3, False), (6, False), (7, False)]
    assert _equal(*states)


def _spied(models: list[torch.nn.Module]):
    def spy(objective, *arguments):
        models.append(objective)
        return validate(objective, *arguments)

    return spy


def test_rows_average_what_was_measured_since_the_last(trainer, tmp_path) -> None:
    every = trainer.with_(folder=tmp_path / "every", pretrain={"log_every": 1}).run().history.train
    pairs = trainer.run().history.train
    names = ["loss", "captioning_forward", "captioning_backward", "grad_norm"]
    for row, first, second in zip(pairs[:3], every[0::2], every[1::2], strict=False):
        for name in names:
            assert row[name] == pytest.approx((first[name] + second[name]) / 2)
        assert row["loss"] == pytest.approx(row["captioning_forward"] + row["captioning_backward"], rel=1e-5)
        assert row["iteration"] == second["iteration"]
    assert [row["backbone_lr"] for row in every[:3]] == [0.0, 0.1, 0.2]
    assert [row["head_lr"] for row in every[:3]] == [0.0, 0.025, 0.05]
    assert every[-1]["images_per_second"] > 0


def test_training_learns(trainer) -> None:
    """The same batch again and again is learnt by heart."""
    first: dict[int, Any] = {}
    same = trainer.with_(num_iterations=30, change_batch=lambda _, batch: first.setdefault(0, batch))
    losses = [row["loss"] for row in same.run().history.train]
    assert losses[-1] < 0.7 * losses[0]


def test_divergence_names_the_iteration_and_the_last_good_checkpoint(trainer) -> None:
    def spoil(iteration, batch):
        if iteration == 4:
            batch["image"][0, 0, 0, 0] = math.nan
        return batch

    with pytest.raises(InputError, match=r"iteration 5: .*iteration_000000003\.pt.*Lower optimizer"):
        trainer.with_(change_batch=spoil, pretrain={"log_every": 100}).run()
    assert trainer.checkpoints.latest().iteration == 3


def test_fp16_without_a_gpu_is_refused(trainer) -> None:
    with pytest.raises(InputError, match="fp16 needs a GPU"):
        trainer.with_(pretrain={"precision": "fp16"}).run()


def test_bf16_keeps_float32_weights(trainer, tmp_path) -> None:
    half = trainer.with_(folder=tmp_path / "bf16", pretrain={"precision": "bf16"}).run()
    full = trainer.run()
    assert {weight.dtype for weight in half.objective.parameters()} == {torch.float32}
    assert not _equal(half, full)
    assert half.history.train[0]["loss"] == pytest.approx(full.history.train[0]["loss"], rel=0.02)


def test_the_worker_errors_of_the_loader_pass_through(trainer) -> None:
    def fail(iteration):
        raise RuntimeError("the disk is gone")

    with pytest.raises(RuntimeError, match="the disk is gone"):
        trainer.with_(before_batch=fail).run()
