"""A GPU that is not there: torch's fake tensors, which have shapes, dtypes and devices, and no values.

Operations on tensors of two devices are refused, as on a GPU; so is a real tensor, which something has made
on the CPU before. What waits for the GPU, since the host wants a value or a number of them, is counted.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch._subclasses.fake_tensor import FakeTensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GPU = torch.device("cuda", 0)
CHOSEN = 3  # how many the values of a condition choose, if anybody asks
_aten = torch.ops.aten
_FUSED = (_aten._fused_sgd_.default, _aten._fused_adamw_.default)
_BY_INDEX = (
    _aten.index.Tensor,
    _aten.index_put.default,
    _aten.index_put_.default,
    _aten._index_put_impl_.default,
)


class Host(TorchFunctionMode):
    """What torch does on the host, for fake tensors: values are zero.

    Attributes:
        reads: how often the host asked a GPU for a value.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if func is Tensor.backward:
            return backward(args[0])
        if args and isinstance(args[0], FakeTensor):
            if func in (Tensor.is_pinned, Tensor.pin_memory):
                assert args[0].device.type == "cpu"
                return True if func is Tensor.is_pinned else args[0]
            if func is Tensor.numpy:
                assert args[0].device.type == "cpu", "torch has no NumPy array of a GPU's tensor"
                return np.zeros(args[0].shape, str(args[0].dtype).removeprefix("torch."))
            if name in ("__bool__", "__int__", "__float__", "__index__", "item", "tolist"):
                self.reads += args[0].device == GPU
                if name == "tolist":
                    return np.zeros(args[0].shape, int).tolist()
                return {"__bool__": False, "__float__": 0.0}.get(name, 0)
            places = (*args[1:], *(kwargs or {}).values()) if func is Tensor.to else ()
            if func is Tensor.cpu or "cpu" in map(str, places):
                self.reads += args[0].device == GPU
        return func(*args, **(kwargs or {}))


class Kernels(TorchDispatchMode):
    """What has no fake form in torch: sizes that depend on values, and the fused optimizers' own kernels.

    A fused kernel reads all that it is given where it is; fake tensors do not look into its lists.
    """

    def __init__(self, host: Host) -> None:
        super().__init__()
        self.host = host

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _FUSED:
            places = {str(one.device) for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)}
            if len(places) > 1:
                raise RuntimeError(f"{func}: two devices, {' and '.join(sorted(places, reverse=True))}")
            return None
        if func is _aten.nonzero.default:
            return self._some(args[0], CHOSEN, args[0].dim())
        if func is _aten.repeat_interleave.Tensor:
            return self._some(args[0], CHOSEN * len(args[0]))
        if func is torch.ops.torchvision.nms.default and args[0].device == args[1].device:
            return self._some(args[0], min(CHOSEN, len(args[0])))
        if func in _BY_INDEX:
            args = (args[0], [one for index in args[1] for one in self._numbers(index)], *args[2:])
        return func(*args, **kwargs)

    def _some(self, values: Tensor, *shape: int) -> Tensor:
        self.host.reads += values.device == GPU
        return values.new_empty(shape, dtype=torch.int64)

    def _numbers(self, index: Tensor | None) -> list[Tensor | None]:
        """In the place of a mask, which chooses as many as its values say."""
        is_mask = index is not None and index.dtype in (torch.bool, torch.uint8)
        return [self._some(index, CHOSEN)] * index.dim() if is_mask else [index]


def backward(loss: Tensor) -> None:
    """As torch's own: each step's gradients by the step's own formula, in the shape and dtype it has.

    torch's engine asks a driver for its streams ("hasPrimaryContext expects a valid device index"); the steps
    themselves do not. Hooks are not called.
    """
    above_of = {loss.grad_fn: _above(loss.grad_fn)}
    users: dict[Any, int] = {}
    waiting = [loss.grad_fn]
    while waiting:
        for above, _ in above_of[waiting.pop()]:
            users[above] = users.get(above, 0) + 1
            if above not in above_of:
                above_of[above] = _above(above)
                waiting.append(above)
    gradients: dict[Any, dict[int, Tensor]] = {loss.grad_fn: {0: torch.ones_like(loss)}}
    ready = [loss.grad_fn]
    with torch.no_grad():
        while ready:
            step = ready.pop()
            found = _gradients(step, gradients.pop(step, {}))
            for (above, place), gradient in zip(above_of[step], found, strict=True):
                if gradient is not None:
                    slots, gradient = gradients.setdefault(above, {}), _fitting(gradient, above, place)
                    slots[place] = slots[place] + gradient if place in slots else gradient
                users[above] -= 1
                if not users[above]:
                    ready.append(above)


def _above(step: Any) -> list[tuple[Any, int]]:
    return [pair for pair in step.next_functions if pair[0] is not None]


def _gradients(step: Any, given: dict[int, Tensor]) -> list[Tensor | None]:
    """For each of ``_above``; a weight's step gives none, the weight has it then."""
    if not given:
        return [None] * len(_above(step))
    is_python = not callable(step)
    found = (step.apply if is_python else step)(*map(given.get, range(len(step._input_metadata))))
    every = found if isinstance(found, tuple) else (found,)
    wanted = step.needs_input_grad if is_python else (above is not None for above, _ in step.next_functions)
    return [gradient for gradient, is_wanted in zip(every, wanted, strict=False) if is_wanted]


def _fitting(gradient: Tensor, step: Any, place: int) -> Tensor:
    expected = step._input_metadata[place]
    if gradient.device != expected.device:
        raise RuntimeError(f"{step.name()}: two devices, {expected.device} and {gradient.device}")
    return gradient.sum_to_size(expected.shape).to(expected.dtype)


@contextmanager
def fake_gpu(module: nn.Module) -> Iterator[Host]:
    """Put a module on the fake GPU; what follows happens there."""
    host = Host()
    with FakeTensorMode(allow_non_fake_inputs=False), Kernels(host), host:
        moved: dict[int, Any] = {}  # tied weights stay tied
        for part in module.modules():
            for store in (part._parameters, part._buffers):
                for name, value in store.items():
                    if value is not None and id(value) not in moved:
                        fake = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=GPU)
                        is_weight = isinstance(value, nn.Parameter)
                        moved[id(value)] = nn.Parameter(fake, value.requires_grad) if is_weight else fake
                    store[name] = None if value is None else moved[id(value)]
        yield host


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


def faked(value: Any) -> Any:
    """The same on the host, without values."""
    if isinstance(value, Tensor):
        return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype)
    if isinstance(value, dict):
        return {name: faked(item) for name, item in value.items()}
    return [faked(item) for item in value] if isinstance(value, list) else value


class Scaled(torch.autograd.Function):
    """A planted mistake: only its gradient is computed with a number on the CPU."""

    @staticmethod
    def forward(_: Any, given: Tensor) -> Tensor:
        return given * 2

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return gradient * torch.full((1,), 2.0)
