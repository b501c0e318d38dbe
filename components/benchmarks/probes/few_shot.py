"""Few shots: ridge regression from 1, 2, 5 or 10 images of each class, in closed form.

Features are L2-normalised and, with the mean of the few training images taken off, scaled to a mean squared
length of 1, so that one strength of the penalty fits every backbone. Targets are 1 for an image's own class
and -1 for all others; the highest output wins. Images are drawn ten times, the same for every backbone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from components.benchmarks.shared.features import Features, l2_normalised
from components.benchmarks.shared.intervals import SEED, Array, resamples_of

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
