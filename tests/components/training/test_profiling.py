import pytest
import torch

from components.training.profiling import PROFILED, SKIPPED, WARM_UP, profiling


def test_a_profile_changes_no_weights(trainer, results, tmp_path) -> None:
    profiles = []
    profiled = trainer.with_(folder=tmp_path / "on", pretrain={"profile": True}, profiled=profiles.append)
    assert results(profiled.run()) == results(trainer.with_(folder=tmp_path / "off").run())
    assert len(profiles) == 1
    names = {average.key for average in profiles[0].key_averages()}
    assert {"aten::convolution_backward", "Optimizer.step#SGD.step"} <= names


def test_without_the_flag_nothing_is_profiled(trainer) -> None:
    profiles = []
    trainer.with_(profiled=profiles.append).run()
    assert profiles == []


@pytest.mark.parametrize(("iterations", "expected"), [(SKIPPED, 0), (SKIPPED + WARM_UP + 1, 1), (20, 1)])
def test_a_run_may_end_early(iterations: int, expected: int) -> None:
    profiles = []
    with profiling(torch.device("cpu"), profiles.append) as step:
        for _ in range(iterations):
            torch.ones(2) + 1
            step()
    assert len(profiles) == expected
    counts = {average.key: average.count for found in profiles for average in found.key_averages()}
    assert counts.get("aten::add", 0) <= PROFILED
