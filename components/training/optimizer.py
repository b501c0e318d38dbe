"""The optimizer: two learning rates and their schedule, SGD or AdamW inside Lookahead, number formats."""

import math
import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from components import params
from components.core.errors import InputError

BACKBONE_PREFIX = "visual."
Multiplier = Callable[[int], float]


def parameter_groups(
    module: nn.Module,
    *,
    backbone_lr: float,
    head_lr: float,
    weight_decay: float,
    no_weight_decay: str | None = None,
) -> list[dict[str, Any]]:
    """Return parameters that share a learning rate and a weight decay, one group for each such pair.

    A parameter that is tied to another one counts once, under the first of its names; parameters
    that need no gradient are left out. Paper, section 3.2.

    Args:
        module: whose names begin with ``visual.`` in the backbone.
        backbone_lr: highest learning rate of the backbone.
        head_lr: of everything else.
        weight_decay: of all weights but those below.
        no_weight_decay: regular expression of names that do not decay, as scalars never do; None has all
            others decay.

    Returns:
        Groups for a torch optimizer: ``params`` as (name, parameter) pairs in the module's order,
        ``lr``, ``weight_decay``, and ``part``, which is ``backbone`` or ``head``.
    """
    kept = re.compile(no_weight_decay) if no_weight_decay is not None else None
    groups: dict[tuple[str, float], dict[str, Any]] = {}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        part = "backbone" if name.startswith(BACKBONE_PREFIX) else "head"
        is_kept = parameter.ndim == 0 or (kept is not None and kept.match(name))  # scalars: scales, biases
        decay = 0.0 if is_kept else weight_decay
        group = groups.setdefault(
            (part, decay),
            {
                "params": [],
                "part": part,
                "lr": backbone_lr if part == "backbone" else head_lr,
                "weight_decay": decay,
            },
        )
        group["params"].append((name, parameter))
    return list(groups.values())


def sgd(groups: list[dict[str, Any]], momentum: float) -> torch.optim.SGD:
    """Return SGD with momentum over ``parameter_groups``.

    The fused form reads and writes each weight once, where the plain one passes over them four times.
    A gradient scaler skips whole steps of it, as of any other optimizer.
    """
    optimizer = torch.optim.SGD(groups, momentum=momentum, fused=True)
    # It offers the scaler to skip steps itself, but makes its momentum of uninitialised memory first: after
    # an overflow at the first step the second one would add that to the weights (torch 2.14).
    optimizer._step_supports_amp_scaling = False
    return optimizer


def build_optimizer(module: nn.Module, settings: params.Optimizer) -> torch.optim.Optimizer:
    """Return pretraining's optimizer, inside Lookahead unless ``lookahead_steps`` is 0."""
    groups = parameter_groups(
        module,
        backbone_lr=settings.backbone_lr,
        head_lr=settings.head_lr,
        weight_decay=settings.weight_decay,
        no_weight_decay=settings.no_weight_decay,
    )
    inner: torch.optim.Optimizer
    if settings.name == "adamw":
        inner = torch.optim.AdamW(groups, betas=settings.betas, eps=settings.epsilon, fused=True)
    else:
        inner = sgd(groups, settings.momentum)
    if settings.lookahead_steps == 0:
        return inner
    return Lookahead(inner, steps=settings.lookahead_steps, alpha=settings.lookahead_alpha)


def learning_rates(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """Return the learning rates in force, by part: ``{"backbone": ..., "head": ...}``."""
    return {group["part"]: float(group["lr"]) for group in optimizer.param_groups}


_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def chosen_precision(device: torch.device, precision: str) -> str:
    """Return ``precision``, and for ``auto`` bf16 where ``device`` multiplies it natively, else fp32."""
    if precision != "auto":
        return precision
    return "bf16" if multiplies_bf16(device) else "fp32"


def multiplies_bf16(device: torch.device) -> bool:
    """Return whether the processor or GPU has instructions for bf16 products."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def check_precision(device: torch.device, precision: str, key: str) -> None:
    """Refuse what the device cannot do; ``key`` is where params.yaml says the precision.

    Raises:
        InputError: for fp16 without a GPU, and for bf16 on a GPU that lacks it.
    """
    if precision == "fp16" and device.type != "cuda":
        raise InputError(f"{key}: fp16 needs a GPU, this runs on {device}; choose fp32 or bf16")
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        name = torch.cuda.get_device_name(device)
        raise InputError(f"{key}: {name} has no bf16; choose fp16 or fp32")


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context of a forward pass in ``precision``; weights stay float32."""
    return torch.autocast(device.type, dtype=_DTYPES[precision], enabled=precision != "fp32")


def grad_scaler(device: torch.device, precision: str) -> torch.amp.GradScaler:
    """Return loss scaling that keeps fp16 gradients from vanishing; it passes all else through."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")


class Lookahead(Optimizer):
    """Let another optimizer take ``steps`` steps, then pull its weights back towards a slow copy.

    Every ``steps`` steps: ``slow += alpha * (fast - slow)``, then ``fast = slow``. The inner
    optimizer's own state, such as momentum, is left as it is. ``param_groups`` and ``state`` are
    the inner optimizer's, so that learning-rate schedules and gradient scalers work through it.

    Args:
        inner: the optimizer of the fast weights.
        steps: inner steps between two pulls, at least 1.
        alpha: share of the way from the slow to the fast weights, in (0, 1].

    Raises:
        ValueError: for steps or alpha out of range.
    """

    def __init__(self, inner: Optimizer, steps: int, alpha: float) -> None:
        if steps < 1:
            raise ValueError(f"Lookahead steps must be at least 1, got {steps}")
        if not 0.0 < alpha <= 1.0:
            raise ValueError(f"Lookahead alpha must lie in (0, 1], got {alpha}")
        super().__init__(inner.param_groups, inner.defaults)
        self.inner = inner
        self.steps = steps
        self.alpha = alpha
        self.counter = 0
        self._share_inner()
        self.slow_weights = [weight.detach().clone() for weight in self._fast_weights()]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of the inner optimizer, and a pull after every ``steps`` of them."""
        loss = self.inner.step() if closure is None else self.inner.step(closure)
        self.counter += 1
        if self.counter == self.steps:
            self.counter = 0
            fast_weights = self._fast_weights()
            torch._foreach_lerp_(self.slow_weights, fast_weights, self.alpha)
            torch._foreach_copy_(fast_weights, self.slow_weights)
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Everything an exact resume needs: the inner state, the slow weights and the counter."""
        return {
            "inner": self.inner.state_dict(),
            "slow_weights": list(self.slow_weights),
            "counter": self.counter,
            "steps": self.steps,
            "alpha": self.alpha,
        }

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what ``state_dict`` returned; nothing may be missing, unknown or of another shape.

        Raises:
            ValueError: naming what does not fit.
        """
        expected = {"inner", "slow_weights", "counter", "steps", "alpha"}
        if set(state_dict) != expected:
            raise ValueError(f"Lookahead state must have {sorted(expected)}, found {sorted(state_dict)}")
        for name, value in (("steps", self.steps), ("alpha", self.alpha)):
            if state_dict[name] != value:
                raise ValueError(f"Lookahead state was made with {name} {state_dict[name]}, not {value}")
        if not 0 <= state_dict["counter"] < self.steps:
            raise ValueError(f"Lookahead counter {state_dict['counter']} is not below {self.steps} steps")
        slow_weights = state_dict["slow_weights"]
        found = [tuple(weight.shape) for weight in slow_weights]
        shapes = [tuple(weight.shape) for weight in self.slow_weights]
        if found != shapes:
            raise ValueError(f"Lookahead slow weights have shapes {found}, expected {shapes}")
        self.inner.load_state_dict(state_dict["inner"])
        self._share_inner()
        for weight, loaded in zip(self.slow_weights, slow_weights, strict=True):
            weight.copy_(loaded)
        self.counter = int(state_dict["counter"])

    def _share_inner(self) -> None:
        self.param_groups = self.inner.param_groups
        self.state = self.inner.state

    def _fast_weights(self) -> list[Tensor]:
        return [weight for group in self.inner.param_groups for weight in group["params"]]


def multiplier(
    name: str,
    iterations: int,
    *,
    warmup_iterations: int = 0,
    milestones: Sequence[int] = (),
    gamma: float = 0.1,
) -> Multiplier:
    """Return the factor on every base learning rate, as a function of the 0-based iteration.

    All four rise linearly from 0 during the warm-up. With ``r`` the share of the remaining
    iterations that is done, cosine is ``cos(pi r / 2) ** 2``, linear is ``1 - r`` but at least 0,
    multistep is ``gamma`` to the number of milestones passed, none is 1. Beyond the last iteration
    cosine rises again, as the formula does. Paper, section 3.2.
    """
    warmup = warmup_iterations
    after_warmup = iterations - warmup

    def cosine(iteration: int) -> float:
        return math.cos((iteration - warmup) / after_warmup * math.pi / 2) ** 2

    def linear(iteration: int) -> float:
        return max(0.0, (iterations - iteration) / after_warmup)

    def multistep(iteration: int) -> float:
        return gamma ** bisect_right(milestones, iteration)

    def none(_iteration: int) -> float:
        return 1.0

    shape = {"cosine": cosine, "linear": linear, "multistep": multistep, "none": none}[name]
    return lambda iteration: iteration / warmup if iteration < warmup else shape(iteration)


class LearningRateSchedule:
    """Sets ``lr`` of every parameter group to its base value times the multiplier.

    The base values are those the groups have when the schedule is made. Unlike torch's LambdaLR it
    allows an iteration whose optimizer step the gradient scaler skipped, and it refuses a
    state that was made with other base values.
    """

    def __init__(self, optimizer: Optimizer, multiplier: Multiplier) -> None:
        self.optimizer = optimizer
        self.multiplier = multiplier
        self.base_lrs = [float(group["lr"]) for group in optimizer.param_groups]
        self.iteration = 0
        self._apply()

    def step(self) -> None:
        """Move on to the next iteration."""
        self.iteration += 1
        self._apply()

    def state_dict(self) -> dict[str, Any]:
        """Return the 0-based iteration whose learning rates are in force, and the base values."""
        return {"iteration": self.iteration, "base_lrs": list(self.base_lrs)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a saved state.

        Raises:
            ValueError: if it was made with other base learning rates.
        """
        if state_dict["base_lrs"] != self.base_lrs:
            raise ValueError(f"schedule was made for {state_dict['base_lrs']}, not {self.base_lrs}")
        self.iteration = int(state_dict["iteration"])
        self._apply()

    def _apply(self) -> None:
        factor = self.multiplier(self.iteration)
        for group, base_lr in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = base_lr * factor
