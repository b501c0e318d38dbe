"""What the demo is about to do, told before it starts: its steps, how long they take here, where pictures appear."""

import time

import numpy as np

from components.core import machine
from components.params.presets import DEFAULT
from pipelines.graph import Plan

# Measured on the same machine, two cores: the whole demo, and what `seconds_of_work` returns.
DEMO_SECONDS = 480.0
WORK_SECONDS = 0.35
SIDE, REPEATS = 1536, 5  # of the matrices; the quickest of the repeats counts, the first warms up


def told(plan: Plan, preset: str | None) -> list[str]:
    """Return the lines of a whole run of the demo; none for any other run."""
    if preset != DEFAULT or len(plan.pending) < len(plan.stages) - len(plan.not_run):
        return []
    minutes = max(1, round(DEMO_SECONDS * seconds_of_work() / WORK_SECONDS / 60))
    return [
        "The demo draws scenes with captions, pretrains a small network on them, and measures on the benchmarks of the "
        "paper what it learned, beside a random network.",
        f"Expected: about {minutes} minutes on this machine as busy as it is now ({machine.num_cpus()} cores, by the "
        "time of a matrix product).",
        "Pictures: outputs/datasets/scenes.png, scenes with their captions, within a minute; outputs/caption/index.html, "
        "captions that it writes; outputs/report/report.html, all results, at the end.",
    ]


def seconds_of_work() -> float:
    """Return how long a product of matrices takes on all cores, in a second or two."""
    one = np.random.default_rng(0).random((SIDE, SIDE), dtype=np.float32)
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        one @ one
        seconds.append(time.perf_counter() - start)
    return min(seconds)
