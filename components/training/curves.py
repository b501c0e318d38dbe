"""The loss over a training run as a picture."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from components.core.files import writing
from components.training.state import History, Row


def draw_losses(path: Path, history: History) -> None:
    """Write a PNG: training and validation loss above, learning rates below, by iteration."""
    figure = Figure(figsize=(8.0, 6.0), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    losses, rates = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    losses.plot(*_columns(history.train, "loss"), label="training", linewidth=1)
    losses.plot(*_columns(history.val, "loss"), label="validation", marker="o", markersize=4)
    losses.set(ylabel="loss")
    losses.legend(frameon=False)
    for part in ("backbone", "head"):
        rates.plot(*_columns(history.train, f"{part}_lr"), label=part, linewidth=1)
    rates.set(xlabel="iteration", ylabel="learning rate")
    rates.legend(frameon=False)
    for axes in (losses, rates):
        axes.spines[["top", "right"]].set_visible(False)
    with writing(path) as temporary:
        figure.savefig(temporary, format="png")


def _columns(rows: list[Row], name: str) -> tuple[list[float], list[float]]:
    kept = [row for row in rows if name in row]
    return [row["iteration"] for row in kept], [row[name] for row in kept]
