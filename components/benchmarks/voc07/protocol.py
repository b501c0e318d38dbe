"""VOC07 classification: a linear SVM for each class on frozen features (paper, section 4.1 and appendix A).

Trained: nothing of the backbone. Its pooled features of every image's centre crop, scaled to unit length, are
what the SVMs see. Each class has one: squared hinge loss, positives weighted twice, its cost the one of 0.01,
0.1, 1 and 10 with the best mean AP in 3-fold cross-validation on trainval, then fitted on all of trainval.
Measured: the AP of each class on the test split and their mean, mAP, in percent. params.yaml, section
``voc07``, says what this run does.

The protocol is that of the paper's public code, which follows Goyal et al. (arXiv 1905.01235): in training an
image whose only objects of a class are difficult counts as a negative of that class; in the test it is left
out for that class. The SVMs are those of its LinearSVC; that of one fold, cost and class costs seconds there,
so here all folds and classes are solved at once (squared_hinge).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold
from torch import nn
from tqdm import tqdm

from components import params
from components.benchmarks.shared.features import cached_features, l2_normalised
from components.benchmarks.voc07.results import ClassResult, Measured, measurement_key, thinned_curve
from components.benchmarks.voc07.squared_hinge import Basis, Fit, fit
from components.core import machine, paths
from components.core.errors import InputError
from components.core.memory import batch_bytes, require_memory
from components.data.transforms import EvalTransform
from components.sources.manifest import read_manifest
from components.sources.readers.voc import VocSplit, read_voc07

DIFFICULT = 0  # a class that is present only in objects marked difficult


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
class Extracted:
    """Both splits of a backbone, and the seconds that their features took."""

    trainval: Split
    test: Split
    seconds: float


class Voc07Benchmark:
    """The protocol on the VOC2007 of this run, for any number of backbones.

    Raises:
        InputError: if the run has no VOC2007, or its splits do not fit each other.
    """

    def __init__(self, voc07: params.Voc07) -> None:
        root = read_manifest(paths.dataset_part("voc07")).root_of("voc2007")
        self.voc07 = voc07
        self.trainval, self.test = read_voc07(root, "trainval"), read_voc07(root, "test")
        if self.trainval.classes != self.test.classes:
            different = sorted(set(self.trainval.classes) ^ set(self.test.classes))
            raise InputError(
                f"{root}: ImageSets/Main must list the same classes for trainval and test; "
                f"only one of them lists {', '.join(different)}"
            )

    def measure(self, backbone: nn.Module) -> Measured:
        """Benchmark a frozen backbone, as `components.models.backbones.load_backbone` gives it."""
        return self.evaluate(self.extract(backbone))

    def extract(self, backbone: nn.Module) -> Extracted:
        """Return what the SVMs see."""
        start = time.perf_counter()
        trainval = self._features(backbone, self.trainval, "trainval")
        test = self._features(backbone, self.test, "test")
        return Extracted(trainval, test, time.perf_counter() - start)

    def evaluate(self, extracted: Extracted) -> Measured:
        """Train and test the SVMs."""
        start, device = time.perf_counter(), machine.device_name()
        classes = self.trainval.classes
        results = evaluate_classes(classes, extracted.trainval, extracted.test, self.voc07, device)
        return Measured(results, extracted.seconds, time.perf_counter() - start)

    def key(self, backbone: nn.Module) -> str:
        """Return the digest of all that the results of ``backbone`` depend on."""
        return measurement_key(backbone, (self.trainval, self.test), self.voc07)

    def _features(self, backbone: nn.Module, split: VocSplit, name: str) -> Split:
        batch = min(self.voc07.batch_size, len(split.image_paths))
        keys = f"a batch (voc07.batch_size {batch}, voc07.crop_size {self.voc07.crop_size})"
        require_memory(machine.device_name(), {keys: batch_bytes(batch, self.voc07.crop_size)})
        features = cached_features(
            backbone,
            split.image_paths,
            EvalTransform(self.voc07.image_size, self.voc07.crop_size, self.voc07.antialias),
            batch_size=self.voc07.batch_size,
            num_workers=machine.num_cpus(),
            device=machine.device_name(),
            description=f"{name} features",
        )
        return Split(l2_normalised(features), split.labels)


def evaluate_classes(
    classes: Sequence[str],
    trainval: Split,
    test: Split,
    voc07: params.Voc07,
    device: torch.device | str = "cpu",
) -> list[ClassResult]:
    """Train, choose and test the SVM of every class, all of them at once.

    Raises:
        InputError: if a class has too few images to be trained or tested, or features are not finite.
        ValueError: if shapes disagree.
    """
    for name, split in (("trainval", trainval), ("test", test)):
        _check_split(name, split, len(classes))
    _check_counts(classes, trainval.labels, test.labels, voc07.folds)
    features = torch.from_numpy(trainval.features).to(device)
    targets = torch.from_numpy(np.where(trainval.labels > 0, 1, -1)).to(device)
    basis = Basis(features)
    validation_aps, starts = _cross_validate(features, basis, targets, voc07)
    chosen = validation_aps.argmax(axis=0)  # (num_classes,), the first should several be equal
    costs = torch.tensor(voc07.costs, dtype=features.dtype, device=device)[torch.from_numpy(chosen)]
    start = starts[torch.from_numpy(chosen), :, torch.arange(len(classes))].T
    penalties = costs * _class_weights(targets, voc07)
    svms = fit(basis, targets, penalties, start, max_iterations=voc07.max_iterations)
    scores = svms.scores(torch.from_numpy(test.features).to(device)).cpu().numpy()
    converged = svms.converged.tolist()
    results = []
    for i, name in enumerate(classes):
        labels = test.labels[:, i]
        kept = labels != DIFFICULT
        recall, precision = thinned_curve(labels[kept] > 0, scores[kept, i])
        results.append(
            ClassResult(
                name=name,
                ap=average_precision(labels, scores[:, i]),
                cost=voc07.costs[chosen[i]],
                validation_aps=tuple(validation_aps[:, i].tolist()),
                num_positives=int((trainval.labels[:, i] > 0).sum()),
                num_test_positives=int((labels > 0).sum()),
                num_test_images=int(kept.sum()),
                recall=recall,
                precision=precision,
                scores=scores[:, i],
                converged=converged[i],
            )
        )
    return results


def average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the area under the precision-recall steps, without the images whose label is ``DIFFICULT``.

    This is the paper's and its public code's AP: the sum over thresholds of precision times the
    growth of recall, neither the 11-point average of the VOC2007 challenge nor interpolated.

    Args:
        labels: ``(num_images,)`` of 1 (present), -1 (absent) and 0 (difficult).
        scores: ``(num_images,)``, higher for "present".

    Returns:
        AP between 0 and 1.
    """
    kept = labels != DIFFICULT
    return float(average_precision_score(labels[kept] > 0, scores[kept]))


def _cross_validate(
    features: torch.Tensor, basis: Basis, targets: torch.Tensor, voc07: params.Voc07
) -> tuple[np.ndarray, torch.Tensor]:
    """Return the mean AP on the images held out, ``(num_costs, num_classes)``, and starts for the final SVMs.

    The starts are the mean weights over folds, ``(num_costs, feature_size + 1, num_classes)``.
    Problems are ordered by class, then fold; each cost starts where the next smaller one ended.
    """
    labels = targets.cpu().numpy()
    held_out = _held_out(labels, voc07.folds)  # (num_images, num_classes, folds)
    repeated = targets.repeat_interleave(voc07.folds, dim=1)
    weights = _class_weights(repeated, voc07)
    weights[torch.from_numpy(held_out).to(weights.device).flatten(1)] = 0.0
    aps = np.zeros((len(voc07.costs), labels.shape[1]))
    starts = features.new_zeros(len(voc07.costs), features.shape[1] + 1, labels.shape[1])
    svms: Fit | None = None
    for index in tqdm(np.argsort(voc07.costs, kind="stable"), desc="SVMs", unit="cost"):
        start = svms.weights if svms else None
        cost = voc07.costs[index]
        svms = fit(basis, repeated, cost * weights, start, max_iterations=voc07.max_iterations)
        scores = svms.scores(features).unflatten(1, (-1, voc07.folds)).cpu().numpy()
        starts[index] = svms.weights.unflatten(1, (-1, voc07.folds)).mean(dim=2)
        for i, fold in np.ndindex(held_out.shape[1:]):
            kept = held_out[:, i, fold]
            aps[index, i] += average_precision_score(labels[kept, i] > 0, scores[kept, i, fold])
    return aps / voc07.folds, starts


def _held_out(labels: np.ndarray, folds: int) -> np.ndarray:
    """Return which images each fold of each class tests on: ``(num_images, num_classes, folds)`` bool."""
    held_out = np.zeros((*labels.shape, folds), dtype=bool)
    for i in range(labels.shape[1]):
        splits = StratifiedKFold(folds).split(labels, labels[:, i])
        for fold, (_, test_images) in enumerate(splits):
            held_out[test_images, i, fold] = True
    return held_out


def _class_weights(targets: torch.Tensor, voc07: params.Voc07) -> torch.Tensor:
    return torch.where(targets > 0, voc07.positive_weight, 1.0)


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
