"""VOC07 classification: one linear SVM a class on frozen features (paper appendix A).

The protocol is that of the paper's public code, which follows Goyal et al. (arXiv 1905.01235): in
training an image whose only objects of a class are difficult counts as a negative of that class; in
the test it is left out for that class.
"""

import signal
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from joblib import Parallel, delayed
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import cross_val_score
from sklearn.svm import LinearSVC
from tqdm import tqdm

from components.benchmarks.precision_recall import DIFFICULT, average_precision, thinned_curve
from components.errors import InputError


@dataclass(frozen=True, slots=True)
class SvmProtocol:
    """How the SVM of each class is chosen and trained; the defaults are the paper's."""

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
    classes: Sequence[str], trainval: Split, test: Split, protocol: SvmProtocol, num_jobs: int
) -> list[ClassResult]:
    """Train, choose and test the SVM of every class, in ``num_jobs`` processes.

    Processes, because liblinear keeps one random generator a process: threads would share it and
    results would depend on their timing.

    Raises:
        InputError: if a class has too few images to be trained or tested, or features are not finite.
        ValueError: if shapes disagree.
    """
    for name, split in (("trainval", trainval), ("test", test)):
        _check_split(name, split, len(classes))
    _check_counts(classes, trainval.labels, test.labels, protocol.folds)
    jobs = (
        delayed(_evaluate_class)(name, _one_class(trainval, i), _one_class(test, i), protocol)
        for i, name in enumerate(classes)
    )
    workers = Parallel(
        n_jobs=min(num_jobs, len(classes)),
        backend="loky",
        return_as="generator",
        mmap_mode="r",
        initializer=_leave_interrupts_to_parent,
    )
    results = workers(jobs)
    return list(tqdm(results, total=len(classes), desc="SVMs", unit="class", mininterval=1.0))


def _leave_interrupts_to_parent() -> None:
    """In a worker: Ctrl-C reaches the whole process group, and the parent ends its workers itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def mean_ap_percent(results: Sequence[ClassResult]) -> float:
    """Mean over classes of AP, in percent."""
    return 100.0 * float(np.mean([result.ap for result in results]))


def _one_class(split: Split, index: int) -> Split:
    return Split(split.features, split.labels[:, index])


def _evaluate_class(name: str, trainval: Split, test: Split, protocol: SvmProtocol) -> ClassResult:
    """One class; the labels of both splits are ``(num_images,)``."""
    targets = np.where(trainval.labels > 0, 1, -1)
    validation_aps = tuple(
        _cross_validated_ap(trainval.features, targets, cost, protocol) for cost in protocol.costs
    )
    cost = protocol.costs[int(np.argmax(validation_aps))]  # the first, should several be equal
    svm = _svm(cost, protocol)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        svm.fit(trainval.features, targets)
    scores = svm.decision_function(test.features)
    recall, precision = thinned_curve(test.labels, scores)
    return ClassResult(
        name=name,
        ap=average_precision(test.labels, scores),
        cost=cost,
        validation_aps=validation_aps,
        num_positives=int((targets > 0).sum()),
        num_test_positives=int((test.labels > 0).sum()),
        num_test_images=int((test.labels != DIFFICULT).sum()),
        recall=recall,
        precision=precision,
        converged=bool(svm.n_iter_ < protocol.max_iterations),
    )


def _cross_validated_ap(
    features: np.ndarray, targets: np.ndarray, cost: float, protocol: SvmProtocol
) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        aps = cross_val_score(
            _svm(cost, protocol), features, targets, cv=protocol.folds, scoring="average_precision"
        )
    return float(aps.mean())


def _svm(cost: float, protocol: SvmProtocol) -> LinearSVC:
    return LinearSVC(
        C=cost,
        class_weight={1: protocol.positive_weight, -1: 1.0},
        penalty="l2",
        loss="squared_hinge",
        dual=True,
        tol=1e-4,
        intercept_scaling=1.0,
        max_iter=protocol.max_iterations,
        random_state=0,
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
