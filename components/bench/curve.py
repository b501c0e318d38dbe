"""One cost as it grows: its points, as a table and as a picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from components.atomic import writing

COLUMNS = 3
PANEL_INCHES = (4.2, 3.0)


@dataclass(frozen=True, slots=True)
class Line:
    """What was measured: ``values`` at the places ``at``, in the panel's units."""

    name: str
    at: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Panel:
    """Lines over the same thing; ``logarithmic`` where it grows tenfold from point to point."""

    title: str
    along: str
    unit: str
    lines: tuple[Line, ...]
    logarithmic: bool = False


def as_table(panels: Sequence[Panel]) -> str:
    """Markdown: a row for each line, with all its points."""
    rows = ["| what | along | unit | measured |", "|---|---|---|---|"]
    for panel in panels:
        for line in panel.lines:
            points = "; ".join(f"{at:g}: {value:.3g}" for at, value in zip(line.at, line.values, strict=True))
            name = f"{panel.title}, {line.name}" if line.name else panel.title
            rows.append(f"| {name} | {panel.along} | {panel.unit} | {points} |")
    return "\n".join(rows)


def draw(path: Path, panels: Sequence[Panel]) -> None:
    """Write a PNG with a small chart for each panel."""
    rows = -(-len(panels) // COLUMNS)
    size = (COLUMNS * PANEL_INCHES[0], rows * PANEL_INCHES[1])
    figure = Figure(figsize=size, layout="constrained", dpi=100)
    FigureCanvasAgg(figure)
    for number, panel in enumerate(panels, 1):
        axes = figure.add_subplot(rows, COLUMNS, number)
        for line in panel.lines:
            axes.plot(line.at, line.values, marker="o", markersize=4, label=line.name)
        if panel.logarithmic:
            axes.set(xscale="log", yscale="log")
        else:
            legend_room = 1.5 if len(panel.lines) > 2 else 1.1
            most = max(value for line in panel.lines for value in line.values)
            axes.set(xlim=(0, None), ylim=(0, legend_room * most))
        axes.set_title(panel.title, fontsize=10)
        axes.set(xlabel=panel.along, ylabel=panel.unit)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
        if any(line.name for line in panel.lines):
            axes.legend(frameon=False, fontsize=8, loc="upper left" if len(panel.lines) > 2 else "best")
    with writing(path) as temporary:
        figure.savefig(temporary, format="png")
