"""fp16 with gradient scaling, by torch's scaler for CPUs: steps whose gradients overflow change nothing."""

from typing import Any

import pytest
import torch
from torch import nn

from components import params
from components.benchmarks.classification.heads import ClassificationObjective, ParallelLinearHeads
from components.benchmarks.classification.training import classification_optimizer
from components.training.optimizer import build_optimizer
from components.training.precision import grad_scaler

CPU = torch.device("cpu")
SIZE, CLASSES = 5, 3


def finetuning() -> params.Classification:
    return params.Classification(
        seed=0,
        image_size=40,
        crop_size=32,
        crop_scale=(0.08, 1.0),
        batch_size=4,
        epochs=3,
        learning_rate=0.025,
        momentum=0.9,
        precision="fp16",
        validate_every=1,
        checkpoint_every=2,
        log_every=2,
    )


@pytest.fixture(params=["lookahead", "plain", "fine-tuned", "probed"])
def form(request: pytest.FixtureRequest, optimizer_params: params.Optimizer) -> tuple[params.Optimizer, bool]:
    """An optimizer's section as something in the product has it, and whether the backbone is frozen."""
    forms = {
        "lookahead": (optimizer_params, False),
        "plain": (optimizer_params.model_copy(update={"lookahead_steps": 0}), False),
        "fine-tuned": (classification_optimizer(finetuning(), weight_decay=1e-4), False),
        "probed": (classification_optimizer(finetuning(), weight_decay=0.0), True),
    }
    return forms[request.param]


def model(frozen: bool) -> nn.Module:
    torch.manual_seed(0)
    return ClassificationObjective(
        nn.Linear(SIZE, SIZE), ParallelLinearHeads(1, SIZE, CLASSES), frozen=frozen
    )


def step(module: nn.Module, optimizer: Any, scaler: torch.amp.GradScaler, number: int, bad: bool) -> None:
    """As the loop does it, on a batch that depends on its number."""
    generator = torch.Generator().manual_seed(number)
    batch = {
        "image": torch.randn(4, SIZE, generator=generator),
        "label": torch.randint(CLASSES, (4,), generator=generator),
    }
    optimizer.zero_grad()
    scaler.scale(module(batch).loss).backward()
    if bad:
        for parameter in module.parameters():
            if parameter.grad is not None:
                parameter.grad.fill_(torch.inf)
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()


@pytest.fixture
def dirty_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that is not initialised holds what somebody left there."""
    monkeypatch.setattr(torch, "empty_like", lambda like, **options: torch.full_like(like, 1e30, **options))


@pytest.mark.usefixtures("dirty_memory")
def test_steps_that_overflow_change_nothing(form: tuple[params.Optimizer, bool]) -> None:
    section, frozen = form
    results = []
    for overflows in ((), (0, 1, 4)):
        module = model(frozen)
        optimizer = build_optimizer(module, section)
        scaler = grad_scaler(CPU, "fp16")
        good = 0
        for number in range(6 + len(overflows)):
            bad = number in overflows
            before = {name: value.clone() for name, value in module.state_dict().items()}
            step(module, optimizer, scaler, good, bad)
            if bad:
                assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
            good += not bad
        results.append(module.state_dict())
    clean, with_overflows = results
    for name, value in clean.items():
        assert torch.isfinite(value).all()
        torch.testing.assert_close(with_overflows[name], value, rtol=1e-6, atol=1e-7)


def test_without_overflow_scaling_changes_no_bit(form: tuple[params.Optimizer, bool]) -> None:
    """A scale is a power of two."""
    section, frozen = form
    scaled, plain, untrained = model(frozen), model(frozen), model(frozen)
    runs = [
        (scaled, build_optimizer(scaled, section), grad_scaler(CPU, "fp16")),
        (plain, build_optimizer(plain, section), grad_scaler(CPU, "fp32")),
    ]
    for module, optimizer, scaler in runs:
        for number in range(6):
            step(module, optimizer, scaler, number, bad=False)
    for name, value in plain.named_parameters():
        assert torch.equal(scaled.get_parameter(name), value)
        assert torch.equal(value, untrained.get_parameter(name)) == (frozen and name.startswith("visual."))


def test_a_checkpoint_of_a_run_whose_first_step_overflowed(form: tuple[params.Optimizer, bool]) -> None:
    section, frozen = form
    whole, resumed = model(frozen), model(frozen)
    optimizer, scaler = build_optimizer(whole, section), grad_scaler(CPU, "fp16")
    step(whole, optimizer, scaler, 0, bad=True)
    resumed.load_state_dict(whole.state_dict())
    other, other_scaler = build_optimizer(resumed, section), grad_scaler(CPU, "fp16")
    other.load_state_dict(optimizer.state_dict())
    other_scaler.load_state_dict(scaler.state_dict())
    for number in range(1, 5):
        step(whole, optimizer, scaler, number, bad=False)
        step(resumed, other, other_scaler, number, bad=False)
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value)
