import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from sklearn.model_selection import cross_val_score
from sklearn.svm import LinearSVC

from components.bench.svm import PAPER
from components.benchmarks.voc07.protocol import Split, average_precision, evaluate_classes
from components.benchmarks.voc07.results import mean_ap_percent
from components.core.errors import InputError

CLASSES = ("cat", "dog", "kite")


def unit_rows(features: np.ndarray) -> np.ndarray:
    return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)


def world(num_images: int, seed: int, noise: float = 0.5) -> Split:
    """Features in which each class has a direction of its own, labels without difficult images."""
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random((num_images, 3)) < 0.3, 1, -1).astype(np.int8)
    directions = np.random.default_rng(99).normal(size=(3, 16))
    return Split(unit_rows(labels @ directions + noise * rng.normal(size=(num_images, 16))), labels)


def test_separable_classes_are_learnt_and_shuffled_labels_are_not() -> None:
    trainval, test = world(120, 0), world(120, 1)
    learnt = mean_ap_percent(evaluate_classes(CLASSES, trainval, test, PAPER))
    shuffled = Split(trainval.features, np.random.default_rng(2).permutation(trainval.labels))
    unlearnt = mean_ap_percent(evaluate_classes(CLASSES, shuffled, test, PAPER))
    assert learnt > 95
    assert unlearnt < 60


def test_one_class_is_the_protocol_step_by_step() -> None:
    trainval, test = world(90, 0, noise=3.0), world(90, 1, noise=3.0)
    trainval.labels[:10, 0] = 0
    test.labels[:20, 0] = 0
    result = evaluate_classes(CLASSES, trainval, test, PAPER)[0]

    targets = np.where(trainval.labels[:, 0] == 1, 1, -1)  # difficult: a negative in training
    machines = [
        LinearSVC(C=cost, class_weight={1: 2, -1: 1}, max_iter=100_000, tol=1e-8, dual=True, random_state=0)
        for cost in (0.01, 0.1, 1.0, 10.0)
    ]
    aps = [
        cross_val_score(svm, trainval.features, targets, cv=3, scoring="average_precision").mean()
        for svm in machines
    ]
    best = int(np.argmax(aps))
    scores = machines[best].fit(trainval.features, targets).decision_function(test.features)
    kept = test.labels[:, 0] != 0
    assert result.validation_aps == pytest.approx(aps)
    assert result.cost == (0.01, 0.1, 1.0, 10.0)[best]
    assert result.ap == pytest.approx(average_precision_score(test.labels[kept, 0] == 1, scores[kept]))
    assert result.num_test_images == 70
    assert result.num_positives == (targets == 1).sum()
    assert result.recall[-1] == 1.0


def test_says_when_an_svm_did_not_settle() -> None:
    trainval, test = world(60, 0, noise=3.0), world(60, 1, noise=3.0)
    hurried = evaluate_classes(
        CLASSES, trainval, test, PAPER.model_copy(update={"costs": [10.0], "max_iterations": 1})
    )
    patient = evaluate_classes(CLASSES, trainval, test, PAPER.model_copy(update={"costs": [0.01]}))
    assert not any(result.converged for result in hurried)
    assert all(result.converged for result in patient)


def test_names_every_class_with_too_few_images() -> None:
    trainval, test = world(60, 0), world(60, 1)
    trainval.labels[:, 1] = -1
    trainval.labels[:2, 1] = 1
    test.labels[:, 2] = np.where(test.labels[:, 2] == 1, 0, -1)
    with pytest.raises(InputError) as error:
        evaluate_classes(CLASSES, trainval, test, PAPER)
    assert "dog: 2 positive and 58 negative trainval images" in str(error.value)
    assert "kite: 0 positive" in str(error.value)
    assert "cat" not in str(error.value)


def test_refuses_features_that_are_not_finite() -> None:
    trainval, test = world(60, 0), world(60, 1)
    test.features[3, 3] = np.nan
    with pytest.raises(InputError, match=r"VOC07 test: .*diverged"):
        evaluate_classes(CLASSES, trainval, test, PAPER)


def test_refuses_labels_of_another_shape() -> None:
    trainval, test = world(60, 0), world(60, 1)
    with pytest.raises(ValueError, match=r"labels \(60, 3\)"):
        evaluate_classes(CLASSES[:2], trainval, test, PAPER)


def test_difficult_images_are_left_out_as_counted_by_hand() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.6])
    with_difficult = np.array([0, 1, -1, 1], dtype=np.int8)
    assert average_precision(with_difficult, scores) == pytest.approx((1 / 1 + 2 / 3) / 2)
    as_negative = np.array([-1, 1, -1, 1], dtype=np.int8)
    assert average_precision(as_negative, scores) == pytest.approx((1 / 2 + 2 / 4) / 2)


def test_equals_sklearn_on_the_kept_rows() -> None:
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(-1, 2, 200).astype(np.int8), rng.normal(size=200)
    kept = labels != 0
    assert average_precision(labels, scores) == average_precision_score(labels[kept] == 1, scores[kept])
