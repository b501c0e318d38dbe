"""Where the time of an iteration goes, by torch's profiler, and torch.compile, which makes it less."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
import torch._dynamo  # its settings
from torch import Tensor, nn
from torch import compile as compile_function
from torch.profiler import ProfilerActivity, profile, schedule

from components.core.errors import InputError
from components.objectives.interface import Objective

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


Compile = bool | Literal["reduce-overhead"]  # torch's mode; it adds CUDA graphs, on a GPU


@contextmanager
def compiled(
    objective: Objective, how: Compile, caption_lengths: Sequence[int] | None = None
) -> Iterator[None]:
    """Within, the backbone runs compiled in training mode and as it is written in eval mode.

    Validation has batches of other sizes, each of which would be compiled anew. So would captions be where
    they differ in length from batch to batch; what reads them is compiled only if ``caption_lengths`` says
    which lengths there are. The output layer is not: only real tokens reach it, and their number differs.

    Raises:
        InputError: if there is no compiler for what torch writes.
    """
    if not how:
        yield
        return
    _check_compiler(next(objective.parameters()).device.type)
    methods = [(objective.visual, "forward")]
    methods += objective.fixed_shape_methods() if caption_lengths else []
    # torch counts together what it has compiled of one method, of both heads here, and then compiles no more
    entries = len(methods) * len(caption_lengths or [0])
    with torch._dynamo.config.patch(recompile_limit=max(8, entries)):
        for module, name in methods:
            setattr(module, name, _fast_in_training(module, getattr(module, name), how))
        try:
            yield
        finally:
            for module, name in methods:
                delattr(module, name)  # what the class says again


def _fast_in_training(module: nn.Module, plain: Callable[..., Tensor], how: Compile) -> Callable[..., Tensor]:
    fast = compile_function(plain, dynamic=False, mode=how if isinstance(how, str) else None)

    def method(*arguments: Any) -> Tensor:  # of this one object: the names of its weights stay as they are
        return (fast if module.training else plain)(*arguments)

    return method


def _check_compiler(device_type: str) -> None:
    """Torch would notice in the first iteration, with a traceback of a hundred lines."""
    variable, *names = _COMPILERS.get(device_type, _COMPILERS["cpu"])
    if not os.environ.get(variable) and not any(map(shutil.which, names)):
        raise InputError(
            f"pretrain.compile: no compiler found (searched for {', '.join(names)}); install one, "
            f"name it in {variable}, or set pretrain.compile to false"
        )
