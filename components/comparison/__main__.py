"""Write comparison.md, .json, .csv and .png into a folder, from rows.json: see `read_comparison`."""

import csv
import io
import sys
from pathlib import Path
from typing import Any

from components.comparison.picture import draw_comparison
from components.comparison.rows import ComparedRow, Comparison, Spread, read_comparison
from components.comparison.table import PRETRAINING, markdown
from components.core.errors import InputError
from components.core.files import write_json, write_text
from components.core.foreign_text import table_cell
from components.core.published import BENCHMARKS, SOURCE


def main(request: Path, folder: Path) -> None:
    """Write the four files."""
    comparison = read_comparison(request)
    draw_comparison(folder / "comparison.png", comparison)
    write_text(folder / "comparison.csv", comparison_csv(comparison))
    write_json(folder / "comparison.json", comparison_json(comparison))
    write_text(folder / "comparison.md", markdown(comparison))


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """Return the comparison for programs; figures in percent, means over the seeds of a row."""
    return {
        "format": "virtex-comparison",
        "version": 1,
        "family": comparison.family,
        "base": comparison.base,
        "source_of_published": SOURCE,
        "rows": [_row_json(comparison, row) for row in comparison.rows],
        "baselines": [
            {"name": name, "backbone": backbone, "figures": figures}
            for name, backbone, figures in comparison.baseline_rows()
        ],
    }


def _row_json(comparison: Comparison, row: ComparedRow) -> dict[str, Any]:
    keys = [benchmark.key for benchmark in BENCHMARKS]
    figures = _known({key: row.figure(key) for key in keys})
    gains = _known({key: row.gain(key) for key in keys})
    above = _known({key: comparison.above_first(row, key) for key in keys})
    return {
        "name": row.name,
        "title": row.title,
        "state": row.state,
        "message": "\n".join(run.message for run in row.runs if run.message),
        "digest": row.digest,
        "figures": {key: spread.mean for key, spread in figures.items()},
        "gains": {key: spread.mean for key, spread in gains.items()},
        "runs": {str(run.seed): run.state for run in row.runs},
        "seeds": {key: {str(seed): value for seed, value in s.values.items()} for key, s in figures.items()},
        "standard_errors": {key: spread.standard_error for key, spread in figures.items()},
        "gain_intervals": {key: spread.interval for key, spread in gains.items()},
        "above_first": {key: {"mean": s.mean, "interval": s.interval} for key, s in above.items()},
        "pretraining": {key: row.pretraining.get(key) for key, *_ in PRETRAINING},
        "published": dict(row.published.figures) if row.published else {},
        "comparable": bool(row.published) and not row.differences and not row.parameters,
        "differences": row.differences,
        "parameter_differences": row.parameters,
    }


def _known(spreads: dict[str, Spread | None]) -> dict[str, Spread]:
    return {key: spread for key, spread in spreads.items() if spread}


def comparison_csv(comparison: Comparison) -> str:
    """Return one line per row; empty where there is no figure."""
    keys = [benchmark.key for benchmark in comparison.benchmarks()]
    published = comparison.published_keys()
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(
        ["row", "state", "seeds", *keys, *(f"gain {key}" for key in keys), *(key for key, *_ in PRETRAINING)]
        + [f"paper {key}" for key in published]
        + [f"standard error {key}" for key in keys]
    )
    for row in comparison.rows:
        theirs = row.published.figures if row.published else {}
        figures, gains = ([of(key) for key in keys] for of in (row.figure, row.gain))
        writer.writerow(
            [table_cell(row.name), row.state, len(row.runs)]
            + [spread and spread.mean for spread in [*figures, *gains]]
            + [row.pretraining.get(key) for key, *_ in PRETRAINING]
            + [theirs.get(key) for key in published]
            + [spread and spread.standard_error for spread in figures]
        )
    for name, backbone, means in comparison.baseline_rows():
        writer.writerow([table_cell(f"{name} {backbone}"), "baseline", "", *(means.get(key) for key in keys)])
    return buffer.getvalue()


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except InputError as error:
        sys.exit(str(error))
