"""Announcement of a whole run of the demo: its steps, how long they take here, where its pictures appear."""

import time

import numpy as np

from components.core import machine
from components.params.presets import DEFAULT
from components.tracking.pipeline_run import REPORT
from pipelines.graph import Plan

# Measured on two quiet cores of an AMD EPYC: seconds that `make demo` takes after its set-up (883 of a core),
# and that one product of matrices takes.
DEMO_SECONDS = 527.0
PRODUCT_SECONDS = 0.0375
SIDE, REPEATS = 1536, 5  # of the matrices; the quickest repeat counts


def told(plan: Plan, preset: str | None) -> list[str]:
    """Return the lines of a whole run of the demo; none for any other run."""
    if preset != DEFAULT or plan.unchanged or not any(str(REPORT) in stage.outs for stage in plan.stages):
        return []
    minutes = max(1, round(DEMO_SECONDS / PRODUCT_SECONDS * seconds_of_product() / 60))
    return [
        "The demo draws scenes with captions, pretrains a small network on them, and measures on the paper's",
        "benchmarks what it learned, beside a random network.",
        f"Expected: about {minutes} minutes, as busy as the {machine.num_cpus()} cores are now.",
        "Pictures: outputs/datasets/scenes.png (scenes with captions, first), outputs/caption/index.html",
        "(captions that the network writes), outputs/report/report.html (all results, at the end).",
    ]


def seconds_of_product() -> float:
    """Return how long a product of matrices takes on all cores; done in a second where they are free."""
    factor = np.random.default_rng(0).random((SIDE, SIDE), dtype=np.float32)
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        factor @ factor
        seconds.append(time.perf_counter() - start)
    return min(seconds)
