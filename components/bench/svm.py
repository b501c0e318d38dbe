"""The grid of VOC07 SVMs: ours, all at once, beside one LinearSVC a class, fold and cost."""

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import cross_val_score
from sklearn.svm import LinearSVC

from components import params
from components.bench.timing import Clock, Comparison, in_turn
from components.benchmarks.voc07.protocol import Split, average_precision, evaluate_classes
from components.benchmarks.voc07.results import mean_ap_percent
from components.core import machine

TARGET = 5.0
PAPER = params.Voc07(
    image_size=256,
    crop_size=224,
    batch_size=256,
    costs=[0.01, 0.1, 1.0, 10.0],
    folds=3,
    positive_weight=2.0,
    max_iterations=2000,
)


@dataclass(frozen=True, slots=True)
class Size:
    """Images, features and classes; the full size is VOC2007's with a ResNet-50."""

    trainval: int = 5011
    test: int = 4952
    features: int = 2048
    classes: int = 20


FULL = Size()
QUICK = Size(trainval=90, test=90, features=16, classes=3)


def run(size: Size, rounds: int) -> list[Comparison]:
    """Measure classes per second per core, or on the clock where ours runs on a GPU, in one row."""
    trainval, test = drawn_split(size, size.trainval, seed=0), drawn_split(size, size.test, seed=1)
    names = [f"class {number}" for number in range(size.classes)]
    device = machine.device_name()
    maps: dict[str, float] = {}

    def baseline() -> None:
        maps["baseline"] = grid_of_linear_svcs(trainval, test, PAPER)

    def ours() -> None:
        maps["ours"] = mean_ap_percent(evaluate_classes(names, trainval, test, PAPER, device))

    baseline_times, our_times = in_turn((baseline, ours), rounds, warm_up=0)
    name = f"SVM grid, {size.trainval:,} x {size.features:,}, {size.classes} classes"
    figures = {"mAP of the baseline": f"{maps['baseline']:.3f}", "mAP of ours": f"{maps['ours']:.3f}"}
    clock: Clock = "cpu" if torch.device(device).type == "cpu" else "wall"
    return [Comparison(name, size.classes, "classes", clock, baseline_times, our_times, TARGET, figures)]


def grid_of_linear_svcs(trainval: Split, test: Split, voc07: params.Voc07) -> float:
    """Return mAP in percent by the paper's protocol (appendix A), one class after the other on one core."""
    aps = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for labels, test_labels in zip(trainval.labels.T, test.labels.T, strict=True):
            targets = np.where(labels > 0, 1, -1)
            svms = [
                LinearSVC(
                    C=cost,
                    class_weight={1: voc07.positive_weight, -1: 1.0},
                    max_iter=voc07.max_iterations,
                    dual=True,
                    random_state=0,
                )
                for cost in voc07.costs
            ]
            validation_aps = [
                cross_val_score(
                    svm, trainval.features, targets, cv=voc07.folds, scoring="average_precision"
                ).mean()
                for svm in svms
            ]
            best = svms[int(np.argmax(validation_aps))].fit(trainval.features, targets)
            aps.append(average_precision(test_labels, best.decision_function(test.features)))
    return 100.0 * float(np.mean(aps))


def drawn_split(size: Size, num_images: int, seed: int) -> Split:
    """Return features like a ResNet's, not negative, of unit length, correlated; labels as rare as VOC's.

    A class adds a direction of its own; some labels are wrong, so that no class is separable.
    """
    world, rng = np.random.default_rng(99), np.random.default_rng(seed)
    rates = np.full(size.classes, 0.3)
    if size.classes > 3:
        rates = np.r_[0.4, np.linspace(0.14, 0.04, size.classes - 1)]
    present = rng.random((num_images, size.classes)) < rates
    directions = 0.1 * world.normal(size=(size.classes, size.features))
    factors = world.normal(size=(256, size.features)) / np.sqrt(np.arange(1, 257))[:, None]
    features = 0.1 + present @ directions + 0.5 * rng.normal(size=(num_images, 256)) @ factors
    features = np.maximum(features + 0.6 * rng.normal(size=features.shape), 0.0)
    features /= np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-6)
    wrong = rng.random(present.shape) < 0.02 * rates / rates.mean()
    return Split(features.astype(np.float32), np.where(present ^ wrong, 1, -1).astype(np.int8))
