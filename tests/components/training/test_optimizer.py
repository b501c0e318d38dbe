import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from components import params
from components.benchmarks.classification.heads import ClassificationObjective, ParallelLinearHeads
from components.benchmarks.classification.training import plain_sgd
from components.objectives.build import ModelConfig, build_objective
from components.params.presets import PRESETS_DIR, read_preset
from components.training.optimizer import (
    Lookahead,
    build_optimizer,
    chosen_precision,
    grad_scaler,
    learning_rates,
    multiplies_bf16,
    parameter_groups,
)

REPOSITORY = Path(params.__file__).parents[2]


class Named(nn.Module):
    """A module whose parameters have given dotted names."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        for name in names:
            *parents, leaf = name.split(".")
            module: nn.Module = self
            for parent in parents:
                if parent not in module._modules:
                    module.add_module(parent, nn.Module())
                module = module._modules[parent]
            module.register_parameter(leaf, nn.Parameter(torch.zeros(1)))


def test_groups_of_the_reference(shared_dir: Path, optimizer_params: params.Optimizer) -> None:
    golden = json.loads((shared_dir / "golden" / "param_groups.json").read_text())
    rows = golden["_base_bicaptioning_R_50_L1_H1024"]["rows"]
    module = Named([name for name, _, _ in rows])
    optimizer = build_optimizer(module, optimizer_params)
    by_name = {
        name: (name, group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for name in group["param_names"]
    }
    assert len(rows) == 202
    assert [list(by_name[name]) for name, _, _ in rows] == rows
    assert len(optimizer.param_groups) == 3
    for group in optimizer.param_groups:
        values = [group["lr"], group["weight_decay"]]
        assert group["param_names"] == [name for name, *row_values in rows if row_values == values]
    assert optimizer.param_groups[0]["momentum"] == 0.9
    assert not optimizer.param_groups[0]["nesterov"]


def test_tied_parameters_count_once_and_frozen_ones_not() -> None:
    module = Named(["visual.conv.weight", "textual.embedding.words.weight", "textual.output.weight"])
    module.textual.output.weight = module.textual.embedding.words.weight
    module.visual.conv.weight.requires_grad = False
    groups = parameter_groups(module, backbone_lr=0.2, head_lr=0.001, weight_decay=1e-4)
    names = [name for group in groups for name, _ in group["params"]]
    assert names == ["textual.embedding.words.weight"]


@pytest.mark.parametrize(("steps", "kind"), [(5, Lookahead), (0, torch.optim.SGD)])
def test_lookahead_can_be_off(optimizer_params: params.Optimizer, steps: int, kind: type) -> None:
    module = Named(["visual.conv.weight", "textual.output.weight"])
    optimizer = build_optimizer(module, optimizer_params.model_copy(update={"lookahead_steps": steps}))
    assert type(optimizer) is kind
    assert learning_rates(optimizer) == {"backbone": 0.2, "head": 0.001}


CPU = torch.device("cpu")
Form = tuple[Callable[[Any], torch.optim.Optimizer], bool]
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


def test_adamw_has_the_same_groups(optimizer_params: params.Optimizer) -> None:
    module = Named(["visual.conv.weight", "textual.output.weight", "textual.transformer.norm.bias"])
    chosen = {"name": "adamw", "lookahead_steps": 0, "betas": (0.8, 0.99), "epsilon": 1e-6}
    optimizer = build_optimizer(module, optimizer_params.model_copy(update=chosen))
    assert type(optimizer) is torch.optim.AdamW
    assert learning_rates(optimizer) == {"backbone": 0.2, "head": 0.001}
    assert [group["weight_decay"] for group in optimizer.param_groups] == [1e-4, 1e-4, 0.0]
    assert optimizer.param_groups[0]["betas"] == (0.8, 0.99)
    assert (optimizer.defaults["eps"], optimizer.defaults["fused"]) == (1e-6, True)
    around = build_optimizer(module, optimizer_params.model_copy(update={"name": "adamw"}))
    assert isinstance(around, Lookahead)
    assert type(around.inner) is torch.optim.AdamW


def test_groups_of_the_sequel() -> None:
    """Norms, biases and embedding of the head do not decay; the tied output weight is the embedding's."""
    sections = read_preset("redcaps/bicaptioning_R_50_L6_H512", REPOSITORY / PRESETS_DIR)
    head = params.TextualHead.model_validate(sections["textual_head"])
    config = ModelConfig(
        backbone=params.Backbone(name="resnet18", zero_init_residual=True),
        textual_head=head.model_copy(update={"num_layers": 1}),
        objective=params.Objective(name="bicaptioning"),
        vocab_size=50,
    )
    settings = params.Optimizer.model_validate(sections["optimizer"])
    optimizer = build_optimizer(build_objective(config), settings)
    assert type(optimizer) is torch.optim.AdamW
    decay = {name: group["weight_decay"] for group in optimizer.param_groups for name in group["param_names"]}
    assert {group["lr"] for group in optimizer.param_groups} == {5e-4}
    layer = "textual.transformer.layers.0"
    for kept in (
        "textual.embedding.words.weight", "textual.embedding.positions.weight", "textual.output.bias",
        "textual.visual_projection.bias", f"{layer}.norm1.weight", f"{layer}.linear1.bias",
        f"backward_{layer}.self_attn.in_proj_bias", f"backward_{layer}.norm3.bias",
    ):  # fmt: skip
        assert decay.pop(kept) == 0.0
    for name, value in decay.items():
        is_kept = "textual." in name and ("norm" in name or "bias" in name or "embedding" in name)
        assert value == (0.0 if is_kept else 0.01), name
    assert decay["visual.cnn.bn1.weight"] == decay["textual.visual_projection.weight"] == 0.01


def unfused(module: nn.Module) -> torch.optim.SGD:
    """As detectors have it."""
    return torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)


FORMS = ["sgd in lookahead", "sgd", "adamw in lookahead", "adamw", "fine-tuned", "probed", "unfused"]


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest, optimizer_params: params.Optimizer) -> Form:
    """What builds an optimizer as something in the product does, and whether the backbone is frozen."""
    plain = optimizer_params.model_copy(update={"lookahead_steps": 0})
    adamw = optimizer_params.model_copy(update={"name": "adamw", "backbone_lr": 1e-3})
    plain_adamw = adamw.model_copy(update={"lookahead_steps": 0})
    forms: dict[str, Form] = {
        "sgd in lookahead": (lambda module: build_optimizer(module, optimizer_params), False),
        "sgd": (lambda module: build_optimizer(module, plain), False),
        "adamw in lookahead": (lambda module: build_optimizer(module, adamw), False),
        "adamw": (lambda module: build_optimizer(module, plain_adamw), False),
        "unfused": (unfused, False),
        "fine-tuned": (lambda module: plain_sgd(module, finetuning(), weight_decay=1e-4), False),
        "probed": (lambda module: plain_sgd(module, finetuning(), weight_decay=0.0), True),
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
def test_steps_that_overflow_change_nothing(form: Form) -> None:
    build, frozen = form
    results = []
    for overflows in ((), (0, 1, 4)):
        module = model(frozen)
        optimizer = build(module)
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


def test_without_overflow_scaling_changes_no_bit(form: Form) -> None:
    """A scale is a power of two."""
    build, frozen = form
    scaled, plain, untrained = model(frozen), model(frozen), model(frozen)
    runs = [
        (scaled, build(scaled), grad_scaler(CPU, "fp16")),
        (plain, build(plain), grad_scaler(CPU, "fp32")),
    ]
    for module, optimizer, scaler in runs:
        for number in range(6):
            step(module, optimizer, scaler, number, bad=False)
    for name, value in plain.named_parameters():
        assert torch.equal(scaled.get_parameter(name), value)
        assert torch.equal(value, untrained.get_parameter(name)) == (frozen and name.startswith("visual."))


def test_a_checkpoint_of_a_run_whose_first_step_overflowed(form: Form) -> None:
    build, frozen = form
    whole, resumed = model(frozen), model(frozen)
    optimizer, scaler = build(whole), grad_scaler(CPU, "fp16")
    step(whole, optimizer, scaler, 0, bad=True)
    resumed.load_state_dict(whole.state_dict())
    other, other_scaler = build(resumed), grad_scaler(CPU, "fp16")
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))  # torch would share its tensors
    other_scaler.load_state_dict(scaler.state_dict())
    for number in range(1, 5):
        step(whole, optimizer, scaler, number, bad=False)
        step(resumed, other, other_scaler, number, bad=False)
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value)


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_is_bf16_where_it_is_native(native: bool, expected: str, monkeypatch) -> None:
    monkeypatch.setattr("components.training.optimizer.multiplies_bf16", lambda device: native)
    assert chosen_precision(CPU, "auto") == expected
    assert [chosen_precision(CPU, name) for name in ("fp32", "bf16", "fp16")] == ["fp32", "bf16", "fp16"]


def test_bf16_of_a_processor_is_seen() -> None:
    flags = set(Path("/proc/cpuinfo").read_text().split()) if Path("/proc/cpuinfo").exists() else set()
    if not flags & {"avx2", "avx512f"}:
        pytest.skip("no processor whose flags Linux tells")
    assert multiplies_bf16(CPU) == bool(flags & {"avx512_bf16", "amx_bf16"})
