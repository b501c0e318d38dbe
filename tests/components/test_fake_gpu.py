"""Steps of training, features and decoding on a GPU that is not there: torch's fake tensors.

They have shapes, dtypes and devices, and no values. Operations on tensors of two devices are refused, as on a
GPU; so is a real tensor, which something has made on the CPU before. What waits for the GPU, since the host
wants a value, is counted. torch's autograd engine wants a GPU's driver: in the place of a backward pass every
weight gets a gradient of its shape.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch._subclasses.fake_tensor import FakeTensor
from torch.overrides import TorchFunctionMode

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
from components.training.optimizer import Lookahead
from components.training.schedules import multiplier
from components.training.state import TrainingState
from components.training.validation import to_device

GPU = torch.device("cuda", 0)
OBJECTIVES = get_args(params.Objective.model_fields["name"].annotation)
SIZE, CLASSES = 32, 7


class Host(TorchFunctionMode):
    """What torch does on the host, for fake tensors: values are zero, gradients appear.

    Attributes:
        reads: how often the host asked a GPU for a value.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.reads = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if func is Tensor.backward:
            for parameter in self.module.parameters():
                if parameter.requires_grad:
                    parameter.grad = torch.empty_like(parameter)
            return None
        if args and isinstance(args[0], FakeTensor):
            if func in (Tensor.is_pinned, Tensor.pin_memory):
                assert args[0].device.type == "cpu"
                return True if func is Tensor.is_pinned else args[0]
            if func is Tensor.numpy:
                assert args[0].device.type == "cpu", "torch has no NumPy array of a GPU's tensor"
                return np.zeros(args[0].shape, str(args[0].dtype).removeprefix("torch."))
            if name in ("__bool__", "__int__", "__float__", "__index__", "item"):
                self.reads += args[0].device == GPU
                return {"__bool__": False, "__float__": 0.0}.get(name, 0)
            if func is Tensor.cpu or (func is Tensor.to and str(args[1]) == "cpu"):
                self.reads += args[0].device == GPU
        return func(*args, **(kwargs or {}))


@contextmanager
def autocast(_: torch.device, precision: str) -> Iterator[None]:
    """As components.training.optimizer has it, which torch switches off where there is no GPU."""
    dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]
    before = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    torch.set_autocast_enabled("cuda", precision != "fp32")
    torch.set_autocast_dtype("cuda", dtype)
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()
        torch.set_autocast_enabled("cuda", before[0])
        torch.set_autocast_dtype("cuda", before[1])


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

        def enter(module: nn.Module) -> Host:
            mode = stack.enter_context(FakeTensorMode(allow_non_fake_inputs=False))
            assert isinstance(mode, FakeTensorMode)
            moved: dict[int, Any] = {}  # tied weights stay tied
            for part in module.modules():
                for store in (part._parameters, part._buffers):
                    for name, value in store.items():
                        if value is not None and id(value) not in moved:
                            fake = torch.empty_strided(
                                value.shape, value.stride(), dtype=value.dtype, device=GPU
                            )
                            is_weight = isinstance(value, nn.Parameter)
                            moved[id(value)] = nn.Parameter(fake, value.requires_grad) if is_weight else fake
                        store[name] = None if value is None else moved[id(value)]
            return stack.enter_context(Host(module))

        yield enter


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


def faked(value: Any) -> Any:
    """The same on the host, without values."""
    if isinstance(value, Tensor):
        return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype)
    if isinstance(value, dict):
        return {name: faked(item) for name, item in value.items()}
    return [faked(item) for item in value] if isinstance(value, list) else value


def step(objective: Objective, batch: Any, precision: str = "bf16") -> TrainingState:
    """One step as the loop takes it; ``batch`` is prepared, and on the host."""
    groups = [{"params": list(objective.parameters()), "lr": 0.1, "part": "backbone", "weight_decay": 0.0}]
    # torch has no fake form of the fused SGD that training uses
    optimizer = Lookahead(torch.optim.SGD(groups, momentum=0.9, foreach=True), steps=1, alpha=0.5)
    state = TrainingState(objective, optimizer, multiplier("none", 10, warmup_iterations=1), "bf16", GPU)
    options = LoopOptions(10, 10, 10, 10, "pretrain", "", precision=precision, clip_grad_norm=10.0)
    training_step(state, objective, [to_device(faked(batch), GPU, torch.channels_last)], options)
    return state


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
    fake_gpu(objective)
    with pytest.raises(RuntimeError, match="nonzero"):
        step(objective, batch)
