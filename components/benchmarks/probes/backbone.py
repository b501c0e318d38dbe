"""The probes of a frozen backbone: nearest neighbours on VOC2007 and ImageNet, few shots on ImageNet.

All take the features of centre crops, those of the linear benchmarks: what these have extracted before is
kept (components.benchmarks.shared.features). The mAP of VOC2007 is that of VOC07.

Few shots are ridge regression from 1, 2, 5 or 10 images of each class, in closed form. Features are
L2-normalised and, with the mean of the few training images taken off, scaled to a mean squared length of 1,
so that one strength of the penalty fits every backbone. Targets are 1 for an image's own class and -1 for all
others; the highest output wins. Images are drawn ten times, the same for every backbone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from components import params
from components.benchmarks.probes.result import Probed, means, ranked_classes
from components.benchmarks.shared.features import Features, cached_features, l2_normalised
from components.benchmarks.shared.intervals import SEED, Array, resamples_of
from components.benchmarks.shared.neighbours import NEIGHBOURS, votes
from components.benchmarks.shared.per_image import PerImage
from components.core import machine
from components.data.transforms import EvalTransform
from components.sources.readers.types import ClassifiedImages
from components.sources.readers.voc import VocSplit

SHOTS = (1, 2, 5, 10)
DRAWS = 10
PENALTY = 1.0  # of the weights' squares, in mean squared lengths of an example


@dataclass(frozen=True, slots=True)
class FewShots:
    """Which test images were classified rightly.

    Attributes:
        hits: ``(DRAWS, num_test)``, after each draw of training images.
    """

    hits: NDArray[np.bool_]

    @property
    def accuracy(self) -> float:
        """Mean over draws and test images, in percent."""
        return 100.0 * float(self.hits.mean())

    def resampled(self) -> Array:
        """Return the accuracy on resamples of test images and of draws alike, in percent."""
        num_draws, num_test = self.hits.shape
        rng = np.random.default_rng([SEED, num_draws])
        parts = []
        for counts in resamples_of(num_test):
            drawn = rng.multinomial(num_draws, np.full(num_draws, 1 / num_draws), size=counts.shape[1]).T
            by_draw = self.hits.astype(np.float32) @ counts  # (draws, resamples)
            parts.append(100.0 * (drawn * by_draw).sum(axis=0) / (num_draws * num_test))
        return np.concatenate(parts)


@torch.inference_mode()
def few_shots(
    train: Features,
    train_labels: NDArray[np.int64],
    test: Features,
    test_labels: NDArray[np.int64],
    device: torch.device | str,
    shots: Sequence[int] = SHOTS,
    seed: int = 0,
) -> dict[int, FewShots]:
    """Return what was found from each number of images per class; larger numbers include smaller ones.

    Classes with fewer training images have all of them.
    """
    known = torch.from_numpy(l2_normalised(train)).to(device)
    asked = torch.from_numpy(l2_normalised(test)).to(device)
    num_classes = int(max(train_labels.max(), test_labels.max())) + 1
    hits: dict[int, list[NDArray[np.bool_]]] = {count: [] for count in shots}
    for draw in range(DRAWS):
        order = np.random.default_rng([seed, draw]).permutation(len(train_labels))
        rank = rank_in_class(train_labels[order])
        for count in shots:
            chosen = order[rank < count]
            outputs = ridge(known[chosen], torch.from_numpy(train_labels[chosen]), num_classes, asked)
            hits[count].append(outputs.argmax(dim=1).cpu().numpy() == test_labels)
    return {count: FewShots(np.stack(rows)) for count, rows in hits.items()}


def rank_in_class(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many of the images before each one are of its class."""
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], labels[order])
    rank = np.empty(len(labels), dtype=np.int64)
    rank[order] = np.arange(len(labels)) - starts
    return rank


def ridge(
    examples: torch.Tensor, labels: torch.Tensor, num_classes: int, asked: torch.Tensor
) -> torch.Tensor:
    """Return outputs ``(num_asked, num_classes)`` of the regression with an intercept.

    Args:
        examples: ``(num_examples, feature_size)``.
        labels: ``(num_examples,)`` int64.
        num_classes: outputs.
        asked: ``(num_asked, feature_size)``.
    """
    mean = examples.mean(dim=0)
    centred = examples - mean
    scale = centred.square().sum(dim=1).mean().sqrt().clamp_min(1e-12)
    x, z = centred / scale, (asked - mean) / scale
    targets = torch.full((len(x), num_classes), -1.0, device=x.device, dtype=x.dtype)
    targets[torch.arange(len(x)), labels.to(x.device)] = 1.0
    offset = targets.mean(dim=0)
    # As many equations as there are examples or features, whichever are fewer.
    if len(x) <= x.shape[1]:
        penalty = PENALTY * torch.eye(len(x), device=x.device, dtype=x.dtype)
        return z @ (x.T @ torch.linalg.solve(x @ x.T + penalty, targets - offset)) + offset
    penalty = PENALTY * torch.eye(x.shape[1], device=x.device, dtype=x.dtype)
    return z @ torch.linalg.solve(x.T @ x + penalty, x.T @ (targets - offset)) + offset


FIGURES = (
    *(f"knn.{figure}_{k}" for figure in ("voc07_mAP", "imagenet_top1") for k in NEIGHBOURS),
    *(f"few_shot.imagenet_top1_{count}" for count in SHOTS),
)


def voc_neighbours(backbone: nn.Module, trainval: VocSplit, test: VocSplit, settings: params.Voc07) -> Probed:
    """Rank test images by the votes of trainval images; a class only in difficult objects has no vote."""
    known, asked = (
        _features(backbone, split.image_paths, settings, f"VOC2007 {name}")
        for name, split in (("trainval", trainval), ("test", test))
    )
    found = votes(known, trainval.labels > 0, asked, machine.device_name())
    images = [f"voc2007/{path.stem}" for path in test.image_paths]
    return ranked_classes(images, test.labels, {f"knn.voc07_mAP_{k}": shares for k, shares in found.items()})


def classified(
    backbone: nn.Module,
    train: ClassifiedImages,
    val: ClassifiedImages,
    settings: params.ImagenetLinear,
    which: Sequence[str],
) -> list[Probed]:
    """Classify validation images by nearest neighbours and from few shots, those of ``which``."""
    known, asked = (
        _features(backbone, split.image_paths, settings, f"ImageNet {name}", split.upright)
        for name, split in (("train", train), ("val", val))
    )
    images = ["/".join(path.parts[-2:]) for path in val.image_paths]
    num_classes, device, probed = len(train.classes), machine.device_name(), []
    if "knn" in which:
        shown = np.zeros((len(train.labels), num_classes), dtype=bool)
        shown[np.arange(len(train.labels)), train.labels] = True
        found = votes(known, shown, asked, device)
        hits = {
            f"knn.imagenet_top1_{k}": 100.0 * (shares.argmax(axis=1) == val.labels)
            for k, shares in found.items()
        }
        probed.append(means(images, hits, dict.fromkeys(hits, 100.0 / num_classes)))
    if "few_shot" in which:
        shots = {
            f"few_shot.imagenet_top1_{count}": found
            for count, found in few_shots(known, train.labels, asked, val.labels, device).items()
        }
        by_image = PerImage(
            images,
            {name: found.accuracy for name, found in shots.items()},
            {name: found.resampled() for name, found in shots.items()},
            {name: found.hits for name, found in shots.items()},
        )
        probed.append(Probed(by_image, dict.fromkeys(shots, 100.0 / num_classes)))
    return probed


def _features(
    backbone: nn.Module,
    image_paths: Sequence[Path],
    settings: params.Voc07 | params.ImagenetLinear,
    description: str,
    upright: bool = True,
) -> Features:
    return cached_features(
        backbone,
        image_paths,
        EvalTransform(settings.image_size, settings.crop_size, settings.antialias),
        batch_size=settings.batch_size,
        num_workers=machine.num_cpus(),
        device=machine.device_name(),
        description=f"{description} features",
        upright=upright,
    )
