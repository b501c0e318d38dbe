import pytest
import torch

from components.core.errors import InputError
from components.training import profiling as module
from components.training.profiling import PROFILED, SKIPPED, WARM_UP, compiled, profiling


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


@pytest.fixture
def counted(monkeypatch) -> list[tuple[str, int, str | None]]:
    """Methods and batches that went through what was compiled; the compiler itself is left out: minutes."""
    calls: list[tuple[str, int, str | None]] = []

    def compile_nothing(function, dynamic: bool, mode: str | None):
        assert dynamic is False

        def run(given: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
            calls.append((function.__name__, len(given), mode))
            return function(given, *others)

        return run

    monkeypatch.setattr(module, "compile_function", compile_nothing)
    monkeypatch.setenv("CXX", "none is called")
    return calls


def test_training_runs_compiled_and_validation_as_written(trainer, results, counted, tmp_path) -> None:
    settings = {"compile": True, "validate_every": 2}
    compiled_run = trainer.with_(folder=tmp_path / "on", pretrain=settings).run()
    assert counted == [("forward", trainer.batch_size, None)] * trainer.num_iterations
    settings["compile"] = False
    plain = trainer.with_(folder=tmp_path / "off", pretrain=settings).run()
    assert len(counted) == trainer.num_iterations
    assert results(compiled_run) == results(plain)


def test_heads_are_compiled_where_captions_have_fixed_lengths(trainer, results, counted, tmp_path) -> None:
    settings = {"compile": "reduce-overhead", "caption_lengths": [8]}
    compiled_run = trainer.with_(folder=tmp_path / "on", pretrain=settings).run()
    step = [(name, trainer.batch_size, "reduce-overhead") for name in ("forward", "decode", "decode")]
    assert counted == step * trainer.num_iterations
    assert results(compiled_run) == results(trainer.with_(folder=tmp_path / "off").run())


@pytest.mark.usefixtures("counted")
def test_afterwards_the_model_is_as_before(trainer) -> None:
    objective = trainer.objective()
    names = list(objective.state_dict())
    changed = [objective.visual, objective.textual, objective.backward_textual]
    with compiled(objective, True, [8]):
        assert all({"forward", "decode"} & vars(part).keys() for part in changed)
        assert list(objective.state_dict()) == names
    assert not any({"forward", "decode"} & vars(part).keys() for part in changed)


def test_without_a_compiler_it_does_not_begin(trainer, monkeypatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match=r"pretrain\.compile: no compiler found \(searched for c\+\+, .*CXX"):
        trainer.with_(pretrain={"compile": True}).run()
    trainer.run()


@pytest.mark.slow
@pytest.mark.parametrize("how", [True, "reduce-overhead"])
def test_the_compiler_agrees_within_rounding(trainer, how) -> None:
    objective = trainer.with_(is_random=False).objective().train()
    batches = [fixed_batch(0, 6), fixed_batch(1, 8)]

    def losses_and_gradients() -> list[torch.Tensor]:
        found = []
        for batch in batches:
            objective.zero_grad()
            output = objective(batch)
            output.loss.backward()
            found += [output.loss.detach(), *(weight.grad for weight in objective.parameters())]
        return found

    plain = losses_and_gradients()
    with compiled(objective, how, [6, 8]):
        fast = losses_and_gradients()
    for value, expected in zip(fast, plain, strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)


def fixed_batch(seed: int, length: int) -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    tokens = torch.randint(4, 40, (3, length), generator=rng)
    return {
        "image": torch.randn(3, 3, 32, 32, generator=rng),
        "caption_tokens": tokens,
        "noitpac_tokens": tokens.flip(1),
        "caption_lengths": torch.full((3,), length),
    }
