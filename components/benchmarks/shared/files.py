"""The record that benchmarks write to, and the empty result of one that this run has no data for."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from components.benchmarks.shared.per_image import FILE, PerImage
from components.core.files import write_csv, writing

INCHES = (4.2, 1.2)


class Run(Protocol):
    """The record of a stage."""

    @property
    def output_dir(self) -> Path: ...

    def log(self, metrics: Mapping[str, float], step: int | None = None) -> None: ...

    def artifact(self, path: Path) -> None: ...

    def metrics(self, summary: Mapping[str, Any]) -> None: ...


def record_nothing(
    run: Run, title: str, reason: str, tables: Mapping[str, Sequence[str]], picture: str
) -> None:
    """Write tables without rows, and a picture that says why: DVC wants all outputs of a stage.

    Args:
        run: whose folder they go to.
        title: of the benchmark.
        reason: why it has no result.
        tables: columns by name of the file.
        picture: name of the file.
    """
    for name, columns in tables.items():
        write_csv(run.output_dir / name, columns, ())
    draw_nothing(run.output_dir / picture, title, reason)
    PerImage.nothing().write(run.output_dir / FILE)
    run.metrics({"not_run": reason})
    print(f"{title} is not run: {reason}", flush=True)


def draw_nothing(path: Path, title: str, reason: str) -> None:
    """Write a PNG that says why there is no result."""
    figure = Figure(figsize=INCHES, dpi=120)
    FigureCanvasAgg(figure)
    figure.text(0.5, 0.5, f"{title}\nnot run: {reason}", ha="center", va="center", wrap=True)
    with writing(path) as temporary:
        figure.savefig(temporary, format="png")
