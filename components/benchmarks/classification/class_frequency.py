"""Accuracy by how many training images a class has: many, a medium number, or few.

The usual bounds on long-tailed data are those of Liu et al. (arXiv 1904.05160), which Kang et al.
(arXiv 1910.09217) use on iNaturalist 2018: more than 100 images are many, fewer than 20 are few.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

GROUPS = ("many", "medium", "few")


def frequency_groups(
    train_labels: NDArray[np.int64], num_classes: int, many_above: int, few_below: int
) -> NDArray[np.int64]:
    """Group of each class, an index into `GROUPS`: int64 ``(num_classes,)``.

    Args:
        train_labels: ``(num_train_images,)``.
        many_above: a class with more training images than this has many.
        few_below: a class with fewer than this has few; a class without any is one of them.
    """
    counts = np.bincount(train_labels, minlength=num_classes)
    return np.where(counts > many_above, 0, np.where(counts < few_below, 2, 1))


def accuracy_by_frequency(
    groups: NDArray[np.int64], labels: NDArray[np.int64], predicted: NDArray[np.int64]
) -> dict[str, dict[str, Any]]:
    """Classes, validation images and top-1 in percent of each group; an empty group has no top-1.

    Args:
        groups: of each class, from `frequency_groups`.
        labels: of the validation images ``(num_images,)``.
        predicted: their likeliest classes ``(num_images,)``.
    """
    figures: dict[str, dict[str, Any]] = {}
    for index, name in enumerate(GROUPS):
        chosen = groups[labels] == index
        figures[name] = {"classes": int((groups == index).sum()), "images": int(chosen.sum())}
        if chosen.any():
            figures[name]["top1"] = 100.0 * float((predicted == labels)[chosen].mean())
    return figures
