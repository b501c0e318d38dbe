"""The device on a clock: waiting for it, its best arithmetic, and how long a GPU stands idle."""

import time
from collections.abc import Iterable
from contextlib import AbstractContextManager
from types import TracebackType

import torch
from torch.profiler import ProfilerActivity, profile


def wait(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def matrix_rate(device: torch.device, precision: str, side: int | None = None) -> float:
    """Measure operations per second of a square product of the format, the best of five.

    On a GPU ``fp32`` is TF32 where convolutions are, which they are unless somebody forbids it.
    """
    side = side or (8192 if device.type == "cuda" else 1536)
    left = torch.randn(side, side, device=device).to(_DTYPES[precision])
    best, allowed = float("inf"), torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    for _ in range(6):
        start = time.perf_counter()
        left @ left
        wait(device)
        best = min(best, time.perf_counter() - start)
    torch.backends.cuda.matmul.allow_tf32 = allowed
    return 2 * side**3 / best


Interval = tuple[float, float]


class IdleWatch(AbstractContextManager["IdleWatch"]):
    """Context that notes a GPU's kernels; on a CPU it does nothing.

    Attributes:
        idle_share: afterwards, of the time between the first kernel and the last, the share in which none
            ran; None without a GPU. Copies do not count as work. Profiling slows the host down, so the
            share is rather too high than too low.
    """

    def __init__(self, device: torch.device) -> None:
        self.idle_share: float | None = None
        self._device = device
        activities = [ProfilerActivity.CPU, ProfilerActivity.CUDA]
        self._profile = profile(activities=activities) if device.type == "cuda" else None

    def __enter__(self) -> "IdleWatch":
        if self._profile is not None:
            self._profile.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._profile is None:
            return
        torch.cuda.synchronize(self._device)
        self._profile.stop()
        self.idle_share = uncovered(
            (event.time_range.start, event.time_range.end)
            for event in self._profile.events() or []
            if event.device_type.name == "CUDA"
            and not event.is_user_annotation
            and not event.name.startswith(("Memcpy", "Memset"))
        )


def uncovered(intervals: Iterable[Interval]) -> float:
    """Share of the span of ``intervals`` (start, end) that none of them covers; 1 without any."""
    ordered = sorted(intervals)
    if not ordered:
        return 1.0
    start = end = ordered[0][0]
    covered = 0.0
    for first, last in ordered:
        covered += max(0.0, last - max(first, end))
        end = max(end, last)
    return 1 - covered / (end - start) if end > start else 1.0
