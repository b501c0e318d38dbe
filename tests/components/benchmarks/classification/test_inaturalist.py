import numpy as np
import pytest

from components.benchmarks.classification.inaturalist import accuracy_by_frequency, frequency_groups


def test_the_bounds_themselves_are_medium() -> None:
    labels = np.repeat(np.arange(5), [101, 100, 20, 19, 0])
    groups = frequency_groups(labels, 6, many_above=100, few_below=20)
    assert groups.tolist() == [0, 1, 1, 2, 2, 2]


def test_accuracy_counts_images_of_a_group() -> None:
    groups = np.array([0, 1, 2, 2])
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 3, 3])
    predicted = np.array([0, 0, 0, 1, 1, 2, 0, 3, 2])
    figures = accuracy_by_frequency(groups, labels, predicted)
    assert figures["many"] == {"classes": 1, "images": 4, "top1": 75.0}
    assert figures["medium"] == {"classes": 1, "images": 2, "top1": 50.0}
    assert figures["few"] == {"classes": 2, "images": 3, "top1": pytest.approx(100 / 3)}


def test_an_empty_group_has_no_accuracy() -> None:
    figures = accuracy_by_frequency(np.array([1, 1]), np.array([0, 1]), np.array([0, 1]))
    assert figures["many"] == {"classes": 0, "images": 0}
    assert figures["medium"]["top1"] == 100.0
