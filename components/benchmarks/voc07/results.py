"""The files in which VOC07 results are kept: figures, tables that DVC plots, a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from components.benchmarks.shared.files import write_csv
from components.benchmarks.voc07.svm import ClassResult, mean_ap_percent
from components.core.files import writing

BAR_INCHES = 0.3


TABLE_COLUMNS = ("class", "ap", "cost", "positives", "test_positives", "test_images")
CURVE_COLUMNS = ("class", "recall", "precision")
TABLES = {"ap.csv": TABLE_COLUMNS, "precision_recall.csv": CURVE_COLUMNS}
PICTURE = "ap.png"


def summary(results: Sequence[ClassResult]) -> dict[str, Any]:
    """mAP and APs in percent, the chosen costs, and how many SVMs stopped before they settled."""
    return {
        "mAP": mean_ap_percent(results),
        "ap": {result.name: 100.0 * result.ap for result in results},
        "costs": {result.name: result.cost for result in results},
        "num_classes": len(results),
        "num_unsettled_svms": sum(not result.converged for result in results),
    }


def write_ap_table(path: Path, results: Sequence[ClassResult]) -> None:
    """``class,ap,cost,positives,test_positives,test_images``, AP in percent, a row a class."""
    rows = (
        (r.name, f"{100.0 * r.ap:.4f}", r.cost, r.num_positives, r.num_test_positives, r.num_test_images)
        for r in results
    )
    write_csv(path, TABLE_COLUMNS, rows)


def write_curves(path: Path, results: Sequence[ClassResult]) -> None:
    """``class,recall,precision``, at most 101 rows a class, both between 0 and 1."""
    rows = (
        (result.name, f"{recall:.6f}", f"{precision:.6f}")
        for result in results
        for recall, precision in zip(result.recall, result.precision, strict=True)
    )
    write_csv(path, CURVE_COLUMNS, rows)


def draw_aps(path: Path, results: Sequence[ClassResult], title: str) -> None:
    """A PNG with a bar a class, best first, and the mean as a line; percent."""
    ordered = sorted(results, key=lambda result: result.ap)
    mean = mean_ap_percent(results)
    figure = Figure(figsize=(7.0, 1.6 + BAR_INCHES * len(ordered)), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    bars = axes.barh([result.name for result in ordered], [100.0 * result.ap for result in ordered])
    axes.axvline(mean, color="black", linestyle="--", linewidth=1, label=f"mAP {mean:.1f}")
    labels = axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
    for label in labels:
        label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.5})
    axes.margins(y=0.02)
    axes.set(xlabel="average precision (%)", xlim=(0, 108), title=title)
    axes.set_xticks(range(0, 101, 20))
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower right", frameon=False)
    with writing(path) as temporary:
        figure.savefig(temporary, format="png")
