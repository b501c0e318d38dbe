"""The comparison of a family's rows, which a process of its own makes: pipelines draw nothing."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from components.core.files import read_json, write_json
from components.core.paths import OUTPUTS_DIR
from components.core.redaction import redacted_values
from components.params.families import SEEDS
from pipelines.experiments import FamilyRun, ReadyRow
from pipelines.row import RowOutcome


class ComparisonError(RuntimeError):
    """The comparison could not be made; says why."""


def comparison_dir(family: str) -> Path:
    """Return the folder of a family's comparison, relative to the repository root."""
    return OUTPUTS_DIR / "ablations" / family


def write_comparison(run: FamilyRun, ready: Sequence[ReadyRow], outcomes: Mapping[str, RowOutcome]) -> Path:
    """Write comparison.md, .json, .csv and .png from the rows' own files; returns their folder.

    Args:
        run: what was asked for.
        ready: its rows.
        outcomes: by row; a row without one was never started.

    Raises:
        ComparisonError: with the messages of the process.
    """
    family = run.family
    folder = run.root / comparison_dir(family.name)
    request = {
        "family": family.name,
        "title": family.title,
        "paper_base": family.paper_base,
        "base": run.base,
        "noise": str(run.root / comparison_dir(SEEDS) / "comparison.json"),
        "rows": [
            {
                "name": row.row.name,
                "row": row.row.group,
                "seed": row.row.seed,
                "title": row.row.title,
                "workspace": str(row.workspace),
                "published": row.row.published and row.row.published.name,
                **_outcome(outcomes.get(row.row.name, RowOutcome(row.row.name, "not started"))),
            }
            for row in ready
        ],
    }
    write_json(folder / "rows.json", redacted_values(request))
    command = [sys.executable, "-m", "components.comparison", str(folder / "rows.json"), str(folder)]
    done = subprocess.run(  # in a session of its own: it takes seconds, Ctrl-C need not stop it
        command,
        cwd=run.root,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        start_new_session=True,
    )
    if done.returncode:
        raise ComparisonError(f"the comparison could not be made: {(done.stderr or done.stdout).strip()}")
    return folder


def comparison_text(folder: Path) -> str:
    """Return the comparison as Markdown."""
    return (folder / "comparison.md").read_text(encoding="utf-8").rstrip()


def comparison_figures(folder: Path) -> dict[str, float]:
    """Return the figures of all rows by ``row/benchmark.metric``, for MLflow."""
    rows = read_json(folder / "comparison.json")["rows"]
    return {f"{row['name']}/{key}": value for row in rows for key, value in row["figures"].items()}


def _outcome(outcome: RowOutcome) -> dict[str, object]:
    return {key: value for key, value in asdict(outcome).items() if key != "row"}
