"""Where the time of an iteration goes, by torch's profiler."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

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
