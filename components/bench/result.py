"""What a benchmark prints and keeps: a table, and JSON that holds every round."""

import datetime
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from components.bench.timing import Comparison, Spread

VERSIONS = (
    "torch",
    "torchvision",
    "numpy",
    "scikit-learn",
    "opencv-python-headless",
    "simplejpeg",
    "lmdb",
    "dvc",
)


def hardware() -> dict[str, Any]:
    """Processor, cores this process may use, memory, GPU, versions, commit and UTC date."""
    import psutil
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load": round(os.getloadavg()[0], 2),
        "gpu": gpu,
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def as_json(bench: str, quick: bool, machine: dict[str, Any], rows: Sequence[Comparison]) -> dict[str, Any]:
    """Everything measured; times are seconds."""
    return {
        "bench": bench,
        "quick": quick,
        "machine": machine,
        "comparisons": [
            {
                **asdict(row),
                "baseline_rate": asdict(row.rate(row.baseline)),
                "our_rate": asdict(row.rate(row.ours)),
                "ratio": asdict(row.ratio()),
            }
            for row in rows
        ],
    }


def as_table(rows: Sequence[Comparison]) -> str:
    """Markdown: medians, and quartiles in brackets."""
    lines = ["| what | unit | baseline | ours | ratio | target |", "|---|---|---|---|---|---|"]
    for row in rows:
        unit = f"{row.unit}/s" + (" and core" if row.clock == "cpu" else "")
        target = "-" if row.target is None else f"{row.target:g}x: {'met' if is_met(row) else 'missed'}"
        ratio = _shown(row.ratio(), "x")
        cells = (row.name, unit, _shown(row.rate(row.baseline)), _shown(row.rate(row.ours)), ratio, target)
        lines.append(f"| {' | '.join(cells)} |")
    notes = [f"{row.name}: {name} {value}" for row in rows for name, value in row.figures.items()]
    return "\n".join([*lines, "", *notes])


def is_met(row: Comparison) -> bool:
    """Whether the median ratio reaches the target; a row without one has nothing to reach."""
    return row.target is None or row.ratio().median >= row.target


def _shown(spread: Spread, suffix: str = "") -> str:
    median, lower, upper = (f"{value:.3g}{suffix}" for value in (spread.median, spread.lower, spread.upper))
    return f"{median} ({lower} to {upper})"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _commit() -> str | None:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=10"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None
