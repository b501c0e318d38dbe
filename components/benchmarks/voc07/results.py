"""VOC07 results by class: what is known of each SVM, and the files in which it is kept.

Results of the checkpoint that `select` chose are written for `voc07` to take and not to compute again. They
carry a digest of all that they depend on, as kept features do (components.benchmarks.shared.features): what
is taken is to the last bit what `voc07` would compute, so that DVC need not know of it.
"""

import hashlib
import importlib.metadata
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve
from torch import nn

from components import params
from components.benchmarks.shared.features import LIBRARIES, backbone_digest, code_digest, images_digest
from components.benchmarks.shared.per_image import PerImage
from components.benchmarks.shared.resampled_precision import mean_step_precision
from components.core import machine
from components.core.files import read_json, write_csv, write_json, writing
from components.sources.readers.voc import VocSplit

TABLES = {
    "ap.csv": ("class", "ap", "cost", "positives", "test_positives", "test_images"),
    "precision_recall.csv": ("class", "recall", "precision"),
}
PICTURE = "ap.png"

_BAR_INCHES = 0.3
_RECALL_LEVELS = np.linspace(0.0, 1.0, 101)
_ARRAYS = {"recall": np.float64, "precision": np.float64, "scores": np.float32}
_LIBRARIES = (*LIBRARIES, "numpy", "scikit-learn")


@dataclass(frozen=True, slots=True)
class ClassResult:
    """One class's SVM and how it did on the test split.

    Attributes:
        ap: between 0 and 1.
        cost: the chosen one.
        validation_aps: mean cross-validated AP of each cost, in the order of ``voc07.costs``.
        num_positives: training images with the class.
        num_test_positives: test images with the class.
        num_test_images: test images scored, difficult ones not counted.
        recall: of the thinned curve, growing.
        precision: at each recall.
        scores: of every test image ``(num_test,)`` float32, higher for "present".
        converged: whether the final SVM settled within ``voc07.max_iterations``.
    """

    name: str
    ap: float
    cost: float
    validation_aps: tuple[float, ...]
    num_positives: int
    num_test_positives: int
    num_test_images: int
    recall: np.ndarray
    precision: np.ndarray
    scores: np.ndarray
    converged: bool


@dataclass(frozen=True, slots=True)
class Measured:
    """Results by class, and the time that features and SVMs took."""

    results: list[ClassResult]
    features_seconds: float
    svm_seconds: float

    def by_image(self, test: VocSplit) -> PerImage:
        """Return labels and scores of the test images, and their mAP on resamples of them."""
        scores = np.stack([result.scores for result in self.results], axis=1)
        images = [path.stem for path in test.image_paths]
        results = {"labels": test.labels, "scores": scores}
        figures = {"mAP": mean_ap_percent(self.results)}
        return PerImage.measured(images, figures, mean_step_precision(test.labels, scores), results)

    def figures(self) -> dict[str, Any]:
        """Return mAP and APs in percent, costs, times, and how many SVMs stopped before they settled."""
        return {
            "mAP": mean_ap_percent(self.results),
            "ap": {result.name: 100.0 * result.ap for result in self.results},
            "costs": {result.name: result.cost for result in self.results},
            "num_classes": len(self.results),
            "num_unsettled_svms": sum(not result.converged for result in self.results),
            "features_seconds": round(self.features_seconds, 1),
            "svm_seconds": round(self.svm_seconds, 1),
        }


def mean_ap_percent(results: Sequence[ClassResult]) -> float:
    """Return the mean over classes of AP, in percent."""
    return 100.0 * float(np.mean([result.ap for result in results]))


def thinned_curve(is_present: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return at most 101 points of the precision-recall curve.

    For each recall of 0, 0.01, ..., 1 the point of the highest threshold that reaches it: every
    point lies on the curve, and the steep part of a rare class is not lost among its many negatives.

    Args:
        is_present: ``(num_images,)`` bool.
        scores: ``(num_images,)``, higher for "present".

    Returns:
        recall and precision, ``(num_points,)`` each, recall growing strictly.
    """
    precision, recall, _ = precision_recall_curve(is_present, scores)
    precision, recall = precision[-2::-1], recall[-2::-1]  # by falling threshold, without the anchor (0, 1)
    first = np.searchsorted(recall, _RECALL_LEVELS - 1e-9)
    _, unique = np.unique(recall[first], return_index=True)
    points = first[unique]
    return recall[points], precision[points]


def measurement_key(backbone: nn.Module, splits: tuple[VocSplit, ...], voc07: params.Voc07) -> str:
    """Return the SHA-256 of backbone, images, labels, settings, code, libraries and kind of device."""
    own = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        own.update(path.read_bytes())
    key = {
        "code": [code_digest(), own.hexdigest()],
        "backbone": backbone_digest(backbone),
        "images": [images_digest(split.image_paths, machine.num_cpus()) for split in splits],
        "labels": [hashlib.sha256(split.labels.tobytes()).hexdigest() for split in splits],
        "classes": splits[0].classes,
        "settings": voc07.model_dump(mode="json"),
        "device": machine.device_name(),
        "libraries": {name: importlib.metadata.version(name) for name in _LIBRARIES},
    }
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()


def write_measured(path: Path, measured: Measured | None, key: str) -> None:
    """Write what `voc07` may take; of None a file that fits no backbone."""
    results = [
        asdict(result) | {name: getattr(result, name).tolist() for name in _ARRAYS}
        for result in (measured.results if measured else ())
    ]
    times = (measured.features_seconds, measured.svm_seconds) if measured else ()
    write_json(path, {"key": key if measured else None, "results": results, "seconds": times})


def read_measured(path: Path, key: str) -> Measured | None:
    """Return the results at ``path`` if they are those of ``key``; None if not, or if they cannot be read."""
    try:
        written = read_json(path)
        if written["key"] != key:
            return None
        return Measured([_result(one) for one in written["results"]], *written["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _result(written: dict[str, Any]) -> ClassResult:
    arrays = {name: np.array(written[name], dtype) for name, dtype in _ARRAYS.items()}
    return ClassResult(**written | arrays | {"validation_aps": tuple(written["validation_aps"])})


def write_files(folder: Path, measured: Measured, title: str) -> list[Path]:
    """Write TABLES, AP in percent and curves between 0 and 1, and PICTURE; return their paths."""
    aps, curves = (folder / name for name in TABLES)
    results = measured.results
    rows = (
        (r.name, f"{100.0 * r.ap:.4f}", r.cost, r.num_positives, r.num_test_positives, r.num_test_images)
        for r in results
    )
    write_csv(aps, TABLES["ap.csv"], rows)
    points = (
        (result.name, f"{recall:.6f}", f"{precision:.6f}")
        for result in results
        for recall, precision in zip(result.recall, result.precision, strict=True)
    )
    write_csv(curves, TABLES["precision_recall.csv"], points)
    draw_aps(folder / PICTURE, results, title)
    return [aps, curves, folder / PICTURE]


def draw_aps(path: Path, results: Sequence[ClassResult], title: str) -> None:
    """Write a PNG with a bar per class, best first, and the mean as a line; percent."""
    ordered = sorted(results, key=lambda result: result.ap)
    mean = mean_ap_percent(results)
    figure = Figure(figsize=(7.0, 1.6 + _BAR_INCHES * len(ordered)), layout="constrained", dpi=120)
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
