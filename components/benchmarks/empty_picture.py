"""A picture in the place of a result that this run cannot have."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from components.core.files import writing

INCHES = (4.2, 1.2)


def draw_nothing(path: Path, title: str, reason: str) -> None:
    """Write a PNG that says why there is no result."""
    figure = Figure(figsize=INCHES, dpi=120)
    FigureCanvasAgg(figure)
    figure.text(0.5, 0.5, f"{title}\nnot run: {reason}", ha="center", va="center", wrap=True)
    with writing(path) as temporary:
        figure.savefig(temporary, format="png")
