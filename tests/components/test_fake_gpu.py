"""Whole steps of training, features and decoding on a GPU that is not there (tests/fake_tensors.py)."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, get_args

import fake_tensors
import numpy as np
import pytest
import torch
from fake_tensors import GPU, Host, Scaled, autocast, faked
from torch import Tensor, nn

from components import params
from components.benchmarks.classification import heads
from components.benchmarks.shared.features import extract_features
from components.core import machine
from components.data import normalisation
from components.data.batch import collate_targets
from components.data.targets import make_targets
from components.models.backbones import TorchvisionBackbone
from components.models.decoding import beam_search, nucleus_sample
from components.objectives.build import ModelConfig, build_objective
from components.objectives.interface import Objective
from components.training import loop, validation
from components.training.loop import LoopOptions, training_step
from components.training.optimizer import build_optimizer, multiplier
from components.training.state import TrainingState
from components.training.validation import to_device

OBJECTIVES = get_args(params.Objective.model_fields["name"].annotation)
SIZE, CLASSES = 32, 7


@pytest.fixture
def fake_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Host]]:
    """Put a module on the fake GPU; what follows happens there."""
    for module in (loop, validation):
        monkeypatch.setattr(module, "autocast", autocast)
    # constants, copied to a device once
    monkeypatch.setattr(
        normalisation, "_statistics", lambda device: (torch.zeros(3, 1, 1, device=device),) * 2
    )
    with ExitStack() as stack:
        yield lambda module: stack.enter_context(fake_tensors.fake_gpu(module))


class Words:
    """A tokenizer of numbers."""

    vocab_size = 60

    def caption_tokens(self, text: str, max_length: int) -> list[int]:
        return [1, *map(int, text.split()), 2][:max_length]


def model(name: str) -> Objective:
    head = {
        "hidden_size": 64, "num_layers": 1, "attention_heads": 2, "feedforward_size": 64, "norm": "post",
        "dropout": 0.1, "max_caption_length": 12,
    }  # fmt: skip
    backbone = {"name": "resnet18", "zero_init_residual": False}
    sections = {"backbone": backbone, "textual_head": head, "objective": {"name": name}, "vocab_size": 60}
    return build_objective(ModelConfig.model_validate(sections)).train()


def host_batch(name: str) -> dict[str, Any]:
    """Four images with captions, as the loader makes them."""
    rng = np.random.default_rng(0)
    targets = make_targets(name, Words(), 12, parallel_share=0.5)
    pixels = torch.zeros(SIZE, SIZE, 3, dtype=torch.uint8)
    made = [targets("7 8 9 " * (1 + index % 2), [1, 2], rng) for index in range(4)]
    return collate_targets([{"image": pixels, "image_id": "", "targets": each} for each in made])


def step(
    objective: Objective, batch: Any, precision: str = "bf16", optimizer: torch.optim.Optimizer | None = None
) -> TrainingState:
    """One step as the loop takes it, forward and backward; ``batch`` is prepared, and on the host."""
    optimizer = optimizer or optimizer_of(objective)
    state = TrainingState(objective, optimizer, multiplier("none", 10, warmup_iterations=1), precision, GPU)
    options = LoopOptions(10, 10, 10, 10, "pretrain", "", precision=precision, clip_grad_norm=10.0)
    training_step(state, objective, [to_device(faked(batch), GPU, torch.channels_last)], options)
    return state


def optimizer_of(objective: Objective, name: str = "sgd") -> torch.optim.Optimizer:
    """As pretraining has it, with a pull of Lookahead at every step."""
    shipped = params.read_section(params.Optimizer, Path(params.__file__).parents[2] / "params.yaml")
    return build_optimizer(objective, shipped.model_copy(update={"name": name, "lookahead_steps": 1}))


def outputs(module: nn.Module) -> dict[str, torch.dtype]:
    """Filled, as it computes, with what its layers of weights give."""
    found: dict[str, torch.dtype] = {}
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(lambda _, __, given, name=name: found.update({name: given.dtype}))
    return found


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_step_stays_on_the_gpu_in_its_precision_and_never_waits(name: str, fake_gpu) -> None:
    objective = model(name)
    batch = objective.prepared(host_batch(name))
    host = fake_gpu(objective)
    dtypes = outputs(objective)
    state = step(objective, batch)
    assert host.reads == 0
    assert state.iteration == 1
    assert set(dtypes.values()) == {torch.bfloat16}
    assert all(weight.dtype == torch.float32 for weight in objective.parameters())
    assert all(weight.device == GPU for weight in (*objective.parameters(), *objective.buffers()))


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_both_optimizers_keep_their_state_on_the_gpu(name: str, fake_gpu) -> None:
    objective = model("captioning")
    batch = objective.prepared(host_batch("captioning"))
    fake_gpu(objective)
    optimizer = optimizer_of(objective, name)
    state = step(objective, batch, optimizer=optimizer)
    kept = [value for of_weight in optimizer.state.values() for value in of_weight.values()]
    assert len(kept) == {"sgd": 1, "adamw": 3}[name] * len(optimizer.state)
    assert {value.device for value in kept} == {GPU}
    assert state.iteration == 1


@pytest.mark.parametrize(("frozen", "factors"), [(False, (1.0,)), (True, (1.0, 0.1, 3.0))])
def test_a_step_of_classification(frozen: bool, factors: tuple[float, ...], fake_gpu) -> None:
    visual = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    parallel = heads.ParallelLinearHeads(len(factors), 8, CLASSES)
    names = ["", "_b", "_c"][: len(factors)]
    objective = heads.ClassificationObjective(
        visual, parallel, names=names, rate_factors=factors, frozen=frozen
    ).train()
    batch = {
        "image": torch.zeros(4, SIZE, SIZE, 3, dtype=torch.uint8),
        "label": torch.zeros(4, dtype=torch.int64),
    }
    host = fake_gpu(objective)
    step(objective, batch)
    assert host.reads == 0


def test_features_come_to_the_host(fake_gpu) -> None:
    class Images(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> dict[str, Any]:
            return {"image": torch.zeros(3, SIZE, SIZE), "image_id": f"{index}"}

    backbone = nn.Sequential(TorchvisionBackbone("resnet18"), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    fake_gpu(backbone)
    found = extract_features(backbone, Images(), batch_size=4, num_workers=0, device=GPU)
    assert found.shape == (4, 512)


@pytest.mark.parametrize("search", [beam_search, nucleus_sample])
def test_decoding_asks_once_a_token_whether_all_have_ended(search: Callable[..., Any], fake_gpu) -> None:
    objective = model("bicaptioning").eval()
    host = fake_gpu(objective)
    with torch.no_grad():
        decoded = search(objective.textual, objective.visual(torch.empty(2, 3, SIZE, SIZE, device=GPU)))
    assert decoded.tokens.device == GPU
    assert 0 < host.reads <= objective.textual.max_caption_length


def test_a_gpu_has_a_number(fake_gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_gpu(nn.Identity())
    monkeypatch.setenv("VIRTEX_DEVICE", "cuda")
    assert torch.device(machine.device_name()).index == 0


WRONG_DEVICE = r"two devices, cuda:0 and cpu|convert all Tensors to FakeTensors"
KEPT = torch.ones(1, 1, 1, 1)


class OnTheCpu(nn.Module):
    """A planted mistake: a tensor that is made where nobody said."""

    def __init__(self, inner: nn.Module, make: Callable[[], Tensor]) -> None:
        super().__init__()
        self.inner = inner
        self.make = make

    def forward(self, image: Tensor) -> Tensor:
        return self.inner(image) * self.make()


@pytest.mark.parametrize("make", [lambda: torch.ones(1, 1, 1, 1), lambda: KEPT])
def test_a_tensor_left_on_the_cpu_is_found(make: Callable[[], Tensor], fake_gpu) -> None:
    objective = model("captioning")
    objective.visual = OnTheCpu(objective.visual, make)
    batch = objective.prepared(host_batch("captioning"))
    fake_gpu(objective)
    with pytest.raises((RuntimeError, AssertionError), match=WRONG_DEVICE):
        step(objective, batch)


def test_a_mask_on_the_cpu_is_found(fake_gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    objective = model("captioning")
    decode = objective.textual.decode
    masked = lambda memory, tokens, lengths: decode(memory, tokens, torch.full((4,), 5))  # noqa: E731
    monkeypatch.setattr(objective.textual, "decode", masked)
    batch = objective.prepared(host_batch("captioning"))
    fake_gpu(objective)
    with pytest.raises(RuntimeError, match=WRONG_DEVICE):
        step(objective, batch)


def test_a_layer_of_another_precision_is_found(fake_gpu) -> None:
    objective = model("captioning")
    layer = objective.textual.visual_projection
    plain = layer.forward

    def in_float32(features: Tensor) -> Tensor:
        with autocast(GPU, "fp32"):
            return plain(features.float())

    layer.forward = in_float32
    batch = objective.prepared(host_batch("captioning"))
    fake_gpu(objective)
    dtypes = outputs(objective)
    step(objective, batch)
    assert {name for name, dtype in dtypes.items() if dtype != torch.bfloat16} == {
        "textual.visual_projection"
    }


def test_waiting_for_a_value_is_found(fake_gpu) -> None:
    objective = model("captioning")
    batch = objective.prepared(host_batch("captioning"))
    objective.visual.register_forward_hook(lambda _, __, features: features * bool(features.sum() > 0))
    host = fake_gpu(objective)
    step(objective, batch)
    assert host.reads == 1


def test_counting_tokens_on_the_gpu_is_found(fake_gpu) -> None:
    objective = model("captioning")
    batch = host_batch("captioning")  # not prepared
    host = fake_gpu(objective)
    step(objective, batch)
    assert host.reads > 0


class Moved(Scaled):
    """A planted mistake: its gradient is on the CPU."""

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return torch.empty(gradient.shape)


@pytest.mark.parametrize("planted", [Scaled, Moved])
def test_a_backward_pass_with_a_tensor_on_the_cpu_is_found(planted: Any, fake_gpu) -> None:
    objective = model("captioning")
    objective.visual.register_forward_hook(lambda _, __, features: planted.apply(features))
    batch = objective.prepared(host_batch("captioning"))
    fake_gpu(objective)
    with pytest.raises(RuntimeError, match="two devices, cuda:0 and cpu"):
        step(objective, batch)


@pytest.mark.parametrize(
    ("name", "key"), [("sgd", "momentum_buffer"), ("adamw", "exp_avg"), ("adamw", "step")]
)
def test_an_optimizer_with_state_on_the_cpu_is_found(name: str, key: str, fake_gpu) -> None:
    """As one that is loaded from a checkpoint without being moved."""
    objective = model("captioning")
    batch = objective.prepared(host_batch("captioning"))
    fake_gpu(objective)
    optimizer = optimizer_of(objective, name)
    step(objective, batch, optimizer=optimizer)
    of_weight = next(iter(optimizer.state.values()))
    of_weight[key] = torch.empty(of_weight[key].shape)
    with pytest.raises(RuntimeError, match="two devices, cuda:0 and cpu"):
        optimizer.step()


def test_the_steps_of_the_backward_pass_are_torch_s() -> None:
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2))
    found = []
    for backward in (Tensor.backward, fake_tensors.backward):
        torch.manual_seed(0)
        layers.zero_grad()
        output = layers(torch.randn(2, 3, 5, 5))
        backward((output * layers[4].bias).square().mean() + layers[4].weight.sum())
        found.append([weight.grad.clone() for weight in layers.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
