import numpy as np
import pytest
import torch
from sklearn.svm import LinearSVC

from components.benchmarks.voc07.squared_hinge import Basis, fit

COSTS = (0.01, 1.0, 100.0)


@pytest.fixture
def problem() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    features = np.abs(rng.normal(size=(80, 12)))
    scores = (features - features.mean(axis=0)) @ rng.normal(size=12) + rng.normal(size=80)
    return features, np.where(scores > 0, 1, -1)


def penalties_of(targets: np.ndarray, costs: tuple[float, ...]) -> torch.Tensor:
    return torch.from_numpy(np.where(targets > 0, 2.0, 1.0))[:, None] * torch.tensor(costs).double()


def test_weights_are_liblinears(problem) -> None:
    features, targets = problem
    repeated = torch.from_numpy(targets)[:, None].expand(-1, len(COSTS))
    found = fit(
        Basis(torch.from_numpy(features)),
        repeated,
        penalties_of(targets, COSTS),
        max_iterations=10_000,
        tolerance=1e-9,
    )
    assert found.converged.all()
    for index, cost in enumerate(COSTS):
        svm = LinearSVC(C=cost, class_weight={1: 2, -1: 1}, tol=1e-10, max_iter=1_000_000, random_state=0)
        svm.fit(features, targets)
        expected = np.append(svm.coef_, svm.intercept_)
        np.testing.assert_allclose(found.weights[:, index].numpy(), expected, rtol=1e-4, atol=1e-5)
        scores = found.scores(torch.from_numpy(features))[:, index].numpy()
        np.testing.assert_allclose(scores, svm.decision_function(features), atol=1e-3)


def test_single_precision_meets_the_tolerance(problem) -> None:
    features, targets = problem
    repeated = torch.from_numpy(targets)[:, None].expand(-1, len(COSTS))
    arguments = repeated, penalties_of(targets, COSTS)
    rough = fit(Basis(torch.from_numpy(features).float()), *arguments, max_iterations=10_000)
    exact = fit(Basis(torch.from_numpy(features)), *arguments, max_iterations=10_000, tolerance=1e-9)
    assert rough.converged.all()
    assert rough.weights.dtype == torch.float32
    distance = (rough.weights - exact.weights).norm(dim=0) / exact.weights.norm(dim=0)
    assert distance.max() < 0.02


def test_a_penalty_of_zero_leaves_an_image_out(problem) -> None:
    features, targets = problem
    penalties = penalties_of(targets, COSTS)
    penalties[::3] = 0.0
    kept = np.arange(80) % 3 != 0
    column = torch.from_numpy(targets)[:, None].expand(-1, 3)
    options = {"max_iterations": 10_000, "tolerance": 1e-9}
    masked = fit(Basis(torch.from_numpy(features)), column, penalties, **options)
    alone = fit(Basis(torch.from_numpy(features[kept])), column[kept], penalties[kept], **options)
    torch.testing.assert_close(masked.weights, alone.weights, rtol=1e-6, atol=1e-7)


def test_the_start_changes_only_the_way(problem) -> None:
    features, targets = Basis(torch.from_numpy(problem[0])), torch.from_numpy(problem[1])[:, None]
    penalties = penalties_of(problem[1], (1.0,))
    options = {"max_iterations": 10_000, "tolerance": 1e-9}
    cold = fit(features, targets, penalties, **options)
    warm = fit(features, targets, penalties, torch.full_like(cold.weights, 3.0), **options)
    torch.testing.assert_close(warm.weights, cold.weights, rtol=1e-6, atol=1e-7)


def test_says_which_problems_did_not_settle(problem) -> None:
    features, targets = (
        Basis(torch.from_numpy(problem[0])),
        torch.from_numpy(problem[1])[:, None].expand(-1, 2),
    )
    found = fit(features, targets, penalties_of(problem[1], (1e-6, 100.0)), max_iterations=2)
    assert found.converged.tolist() == [True, False]
