import pytest
import torch
from torch import nn

from components.core.errors import InputError
from components.models.backbones import TorchvisionBackbone
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
def counted(monkeypatch) -> list[int]:
    """Batches that went through what was compiled; the compiler itself is left out, it takes a minute."""
    batches: list[int] = []

    def compile_nothing(function, dynamic: bool):
        assert dynamic is False

        def run(image: torch.Tensor) -> torch.Tensor:
            batches.append(len(image))
            return function(image)

        return run

    monkeypatch.setattr(module.torch, "compile", compile_nothing)
    monkeypatch.setenv("CXX", "none is called")
    return batches


def test_training_runs_compiled_and_validation_as_written(trainer, results, counted, tmp_path) -> None:
    settings = {"compile": True, "validate_every": 2}
    compiled_run = trainer.with_(folder=tmp_path / "on", pretrain=settings).run()
    assert counted == [trainer.batch_size] * trainer.num_iterations
    settings["compile"] = False
    plain = trainer.with_(folder=tmp_path / "off", pretrain=settings).run()
    assert len(counted) == trainer.num_iterations
    assert results(compiled_run) == results(plain)


def test_afterwards_the_backbone_is_as_before(monkeypatch) -> None:
    monkeypatch.setenv("CXX", "none is called")
    backbone = nn.Conv2d(3, 4, 1)
    names = list(backbone.state_dict())
    with compiled(backbone, True):
        assert "forward" in vars(backbone)
        assert list(backbone.state_dict()) == names
    assert "forward" not in vars(backbone)


def test_without_a_compiler_it_does_not_begin(trainer, monkeypatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match=r"pretrain\.compile: no compiler found \(searched for c\+\+, .*CXX"):
        trainer.with_(pretrain={"compile": True}).run()
    trainer.run()


@pytest.mark.slow
def test_the_compiler_agrees_within_rounding() -> None:
    torch.manual_seed(0)
    backbone = TorchvisionBackbone("resnet18").train()
    image = torch.randn(2, 3, 64, 64)
    weights = torch.randn(2, 512, 2, 2)

    def features_and_gradient() -> tuple[torch.Tensor, torch.Tensor]:
        backbone.zero_grad()
        features = backbone(image)
        (features * weights).sum().backward()
        assert backbone.cnn.conv1.weight.grad is not None
        return features, backbone.cnn.conv1.weight.grad.clone()

    plain, plain_gradient = features_and_gradient()
    with compiled(backbone, True):
        fast, gradient = features_and_gradient()
    torch.testing.assert_close(fast, plain, rtol=1e-3, atol=1e-3)
    assert torch.cosine_similarity(gradient.flatten(), plain_gradient.flatten(), dim=0) > 0.999
