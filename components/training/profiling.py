"""Where the time of an iteration goes, by torch's profiler, and torch.compile, which makes it less."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile, schedule

from components.core.errors import InputError

SKIPPED, WARM_UP, PROFILED = 3, 1, 3  # iterations of a process, in this order
_OPERATORS = 40  # rows of the table

Keep = Callable[[profile], None]


@contextmanager
def profiling(device: torch.device, keep: Keep | None) -> Iterator[Callable[[], None]]:
    """Profile a few iterations, if there is anybody to ``keep`` the profile.

    What was recorded is kept if the run ends before the last of them; nothing if it ends before the first.

    Yields:
        What to call after every iteration.
    """
    if keep is None:
        yield lambda: None
        return
    activities = [ProfilerActivity.CPU]
    activities += [ProfilerActivity.CUDA] if device.type == "cuda" else []
    plan = schedule(skip_first=SKIPPED, wait=0, warmup=WARM_UP, active=PROFILED, repeat=1)
    with profile(activities=activities, schedule=plan, on_trace_ready=keep, record_shapes=True) as profiler:
        yield profiler.step


def write_profile(profiled: profile, folder: Path) -> list[Path]:
    """Write ``trace.json.gz`` (Chrome's format, for Perfetto) and ``operators.txt``, the costliest first.

    Args:
        profiled: as ``profiling`` hands it over.
        folder: a temporary one; returned are the files in it.
    """
    trace, table = folder / "trace.json.gz", folder / "operators.txt"
    profiled.export_chrome_trace(str(trace))
    on_gpu = ProfilerActivity.CUDA in profiled.activities
    order = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    averages = profiled.key_averages(group_by_input_shape=True)
    text = averages.table(sort_by=order, row_limit=_OPERATORS, max_shapes_column_width=100)
    table.write_text(text, encoding="utf-8")
    return [trace, table]


_COMPILERS = {"cpu": ("CXX", "c++", "g++", "clang++"), "cuda": ("CC", "cc", "gcc", "clang")}


@contextmanager
def compiled(backbone: nn.Module, is_wanted: bool) -> Iterator[None]:
    """Within, ``backbone`` runs compiled in training mode and as it is written in eval mode.

    Validation has batches of other sizes, each of which would be compiled anew. The textual head is left
    alone for the same reason: captions differ in length from batch to batch.

    Shape:
        backbone ``(batch, 3, height, width)`` -> any, always of one shape

    Raises:
        InputError: if there is no compiler for what torch writes.
    """
    if not is_wanted:
        yield
        return
    _check_compiler(next(backbone.parameters()).device.type)
    plain = backbone.forward
    fast = torch.compile(plain, dynamic=False)

    def forward(image: Tensor) -> Tensor:
        features: Tensor = (fast if backbone.training else plain)(image)
        return features

    backbone.forward = forward  # of this one object: the names of its weights stay as they are
    try:
        yield
    finally:
        del backbone.forward  # what the class says again


def _check_compiler(device_type: str) -> None:
    """Torch would notice in the first iteration, with a traceback of a hundred lines."""
    variable, *names = _COMPILERS.get(device_type, _COMPILERS["cpu"])
    if not os.environ.get(variable) and not any(map(shutil.which, names)):
        raise InputError(
            f"pretrain.compile: no compiler found (searched for {', '.join(names)}); install one, "
            f"name it in {variable}, or set pretrain.compile to false"
        )
