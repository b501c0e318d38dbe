"""What a training step of ours costs at one size: time, and memory at its peak."""

import multiprocessing
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from components import machine
from components.bench.step import Size, build, channels_last, drawn_batch, our_step

STEPS = 2  # timed, after one that is not


@dataclass(frozen=True, slots=True)
class StepCost:
    """Images a second on the clock; bytes at the peak, beyond what the process has before the model."""

    images_per_second: float
    peak_bytes: int


def step_cost(size: Size, precision: str) -> StepCost:
    """Measure in a process of its own, whose peak no earlier measurement has raised."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_measure, size, precision, torch.get_num_threads()).result()


def _measure(size: Size, precision: str, num_threads: int) -> StepCost:
    torch.set_num_threads(num_threads)
    device = torch.device(machine.device_name())
    before = psutil.Process().memory_info().rss
    step = our_step(build(size, device), device, precision)
    batch = channels_last(drawn_batch(size, device))
    step(batch).item()
    start = time.perf_counter()
    for _ in range(STEPS):
        loss = step(batch)
    loss.item()  # waits for a GPU
    seconds = time.perf_counter() - start
    on_gpu = device.type == "cuda"
    peak = torch.cuda.max_memory_allocated(device) if on_gpu else _peak_memory() - before
    return StepCost(STEPS * size.batch / seconds, peak)


def _peak_memory() -> int:
    """Largest resident size of this process so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage says on Linux may be the parent's
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
