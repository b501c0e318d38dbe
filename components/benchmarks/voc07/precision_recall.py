"""Average precision and precision-recall curves as VOC07 classification counts them."""

import numpy as np
from sklearn.metrics import average_precision_score, precision_recall_curve

DIFFICULT = 0  # a class that is present only in objects marked difficult
RECALL_LEVELS = np.linspace(0.0, 1.0, 101)


def average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the precision-recall steps, without the images whose label is ``DIFFICULT``.

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


def thinned_curve(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most 101 points of the precision-recall curve, without difficult images.

    For each recall of 0, 0.01, ..., 1 the point of the highest threshold that reaches it: every
    point lies on the curve, and the steep part of a rare class is not lost among its many negatives.

    Args:
        labels: as in `average_precision`.
        scores: as in `average_precision`.

    Returns:
        recall and precision, ``(num_points,)`` each, recall growing strictly.
    """
    kept = labels != DIFFICULT
    precision, recall, _ = precision_recall_curve(labels[kept] > 0, scores[kept])
    precision, recall = precision[-2::-1], recall[-2::-1]  # by falling threshold, without the anchor (0, 1)
    first = np.searchsorted(recall, RECALL_LEVELS - 1e-9)
    _, unique = np.unique(recall[first], return_index=True)
    points = first[unique]
    return recall[points], precision[points]
