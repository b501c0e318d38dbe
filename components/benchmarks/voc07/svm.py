"""VOC07 classification: one linear SVM a class on frozen features (paper appendix A).

The protocol is that of the paper's public code, which follows Goyal et al. (arXiv 1905.01235): in
training an image whose only objects of a class are difficult counts as a negative of that class; in
the test it is left out for that class. The SVMs are those of its LinearSVC; that of one fold, cost and
class costs seconds there, so here all folds and classes are solved at once (squared_hinge).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold
from tqdm import tqdm

from components.benchmarks.voc07.precision_recall import DIFFICULT, average_precision, thinned_curve
from components.benchmarks.voc07.squared_hinge import Basis, Fit, fit
from components.core.errors import InputError


@dataclass(frozen=True, slots=True)
class SvmProtocol:
    """How the SVM of each class is chosen and trained; the defaults are the paper's.

    ``max_iterations`` bounds the conjugate-gradient steps of a problem, as it did liblinear's passes.
    """

    costs: tuple[float, ...] = (0.01, 0.1, 1.0, 10.0)
    folds: int = 3
    positive_weight: float = 2.0
    max_iterations: int = 2000


@dataclass(frozen=True, slots=True)
class Split:
    """Features and labels of one split.

    Attributes:
        features: ``(num_images, feature_size)`` float32, rows of unit length.
        labels: ``(num_images, num_classes)`` int8 of 1 (present), -1 (absent) and 0 (difficult).
    """

    features: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True, slots=True)
class ClassResult:
    """One class's SVM and how it did on the test split.

    Attributes:
        ap: between 0 and 1.
        cost: the chosen one.
        validation_aps: mean cross-validated AP of each cost, in the protocol's order.
        num_positives: training images with the class.
        num_test_positives: test images with the class.
        num_test_images: test images scored, difficult ones not counted.
        recall: of the thinned curve, growing.
        precision: at each recall.
        converged: whether the final SVM settled within ``max_iterations``.
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
    converged: bool


def evaluate_classes(
    classes: Sequence[str],
    trainval: Split,
    test: Split,
    protocol: SvmProtocol,
    device: torch.device | str = "cpu",
) -> list[ClassResult]:
    """Train, choose and test the SVM of every class, all of them at once.

    Raises:
        InputError: if a class has too few images to be trained or tested, or features are not finite.
        ValueError: if shapes disagree.
    """
    for name, split in (("trainval", trainval), ("test", test)):
        _check_split(name, split, len(classes))
    _check_counts(classes, trainval.labels, test.labels, protocol.folds)
    features = torch.from_numpy(trainval.features).to(device)
    targets = torch.from_numpy(np.where(trainval.labels > 0, 1, -1)).to(device)
    basis = Basis(features)
    validation_aps, starts = _cross_validate(features, basis, targets, protocol)
    chosen = validation_aps.argmax(axis=0)  # (num_classes,), the first should several be equal
    costs = torch.tensor(protocol.costs, dtype=features.dtype, device=device)[torch.from_numpy(chosen)]
    start = starts[torch.from_numpy(chosen), :, torch.arange(len(classes))].T
    svms = fit(
        basis,
        targets,
        costs * _class_weights(targets, protocol),
        start,
        max_iterations=protocol.max_iterations,
    )
    scores = svms.scores(torch.from_numpy(test.features).to(device)).cpu().numpy()
    columns = zip(trainval.labels.T, test.labels.T, scores.T, validation_aps.T, chosen, strict=True)
    return [
        _result(name, *column, protocol, converged)
        for name, column, converged in zip(classes, columns, svms.converged.tolist(), strict=True)
    ]


def mean_ap_percent(results: Sequence[ClassResult]) -> float:
    """Mean over classes of AP, in percent."""
    return 100.0 * float(np.mean([result.ap for result in results]))


def _cross_validate(
    features: torch.Tensor, basis: Basis, targets: torch.Tensor, protocol: SvmProtocol
) -> tuple[np.ndarray, torch.Tensor]:
    """Mean AP on the images held out, ``(num_costs, num_classes)``, and starts for the final SVMs.

    The starts are the mean weights over folds, ``(num_costs, feature_size + 1, num_classes)``.
    Problems are ordered by class, then fold; each cost starts where the next smaller one ended.
    """
    labels = targets.cpu().numpy()
    held_out = _held_out(labels, protocol.folds)  # (num_images, num_classes, folds)
    repeated = targets.repeat_interleave(protocol.folds, dim=1)
    weights = _class_weights(repeated, protocol)
    weights[torch.from_numpy(held_out).to(weights.device).flatten(1)] = 0.0
    aps = np.zeros((len(protocol.costs), labels.shape[1]))
    starts = features.new_zeros(len(protocol.costs), features.shape[1] + 1, labels.shape[1])
    svms: Fit | None = None
    for index in tqdm(np.argsort(protocol.costs, kind="stable"), desc="SVMs", unit="cost"):
        start = svms.weights if svms else None
        cost = protocol.costs[index]
        svms = fit(basis, repeated, cost * weights, start, max_iterations=protocol.max_iterations)
        scores = svms.scores(features).unflatten(1, (-1, protocol.folds)).cpu().numpy()
        starts[index] = svms.weights.unflatten(1, (-1, protocol.folds)).mean(dim=2)
        for i, fold in np.ndindex(held_out.shape[1:]):
            kept = held_out[:, i, fold]
            aps[index, i] += average_precision_score(labels[kept, i] > 0, scores[kept, i, fold])
    return aps / protocol.folds, starts


def _held_out(labels: np.ndarray, folds: int) -> np.ndarray:
    """Which images each fold of each class tests on: ``(num_images, num_classes, folds)`` bool."""
    held_out = np.zeros((*labels.shape, folds), dtype=bool)
    for i in range(labels.shape[1]):
        splits = StratifiedKFold(folds).split(labels, labels[:, i])
        for fold, (_, test_images) in enumerate(splits):
            held_out[test_images, i, fold] = True
    return held_out


def _class_weights(targets: torch.Tensor, protocol: SvmProtocol) -> torch.Tensor:
    return torch.where(targets > 0, protocol.positive_weight, 1.0)


def _result(
    name: str,
    train_labels: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray,
    validation_aps: np.ndarray,
    chosen: int,
    protocol: SvmProtocol,
    converged: bool,
) -> ClassResult:
    recall, precision = thinned_curve(labels, scores)
    return ClassResult(
        name=name,
        ap=average_precision(labels, scores),
        cost=protocol.costs[chosen],
        validation_aps=tuple(validation_aps.tolist()),
        num_positives=int((train_labels > 0).sum()),
        num_test_positives=int((labels > 0).sum()),
        num_test_images=int((labels != DIFFICULT).sum()),
        recall=recall,
        precision=precision,
        converged=converged,
    )


def _check_split(name: str, split: Split, num_classes: int) -> None:
    if split.labels.shape != (len(split.features), num_classes):
        raise ValueError(
            f"{name}: labels {split.labels.shape} for features {split.features.shape} "
            f"and {num_classes} classes"
        )
    if not np.isfinite(split.features).all():
        raise InputError(
            f"VOC07 {name}: the backbone gives features that are not finite numbers. Its pretraining has "
            "diverged: lower optimizer.backbone_lr or optimizer.head_lr and pretrain again."
        )


def _check_counts(classes: Sequence[str], trainval: np.ndarray, test: np.ndarray, folds: int) -> None:
    faults = []
    for name, train_labels, test_labels in zip(classes, trainval.T, test.T, strict=True):
        num_positives, num_negatives = int((train_labels > 0).sum()), int((train_labels <= 0).sum())
        if min(num_positives, num_negatives) < folds:
            faults.append(
                f"{name}: {num_positives} positive and {num_negatives} negative trainval images, "
                f"voc07.folds={folds} needs {folds} of each"
            )
        num_positives, num_negatives = int((test_labels > 0).sum()), int((test_labels < 0).sum())
        if min(num_positives, num_negatives) < 1:
            faults.append(
                f"{name}: {num_positives} positive and {num_negatives} negative test images "
                f"({int((test_labels == DIFFICULT).sum())} difficult ones left out), 1 of each is needed"
            )
    if faults:
        raise InputError(
            "VOC07 has too few images of some classes. Add images, lower voc07.folds or remove the class's "
            "files from ImageSets/Main:\n  " + "\n  ".join(faults)
        )
