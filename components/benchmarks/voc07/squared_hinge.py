"""Linear SVMs with squared hinge loss, many at once over the same features.

The problem is liblinear's, its bias included: with a last feature that is always 1, each column w of
the result minimises

    1/2 |w|^2 + sum_i penalty_i max(0, 1 - target_i w x_i)^2

which is strictly convex, so that every solver that settles gives the same w. Newton's method, with
conjugate gradients for the steps (Keerthi and DeCoste, JMLR 6, 2005), needs products with the
features only: those of all columns become two matrix products, which is where the speed comes from.
All of it happens in the basis of the data's principal axes (`Basis`), where the Hessian is close to
diagonal, so that its diagonal makes a good preconditioner.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

_STEP_PRECISION = 0.1  # of a Newton step: its residual, as a share of the gradient
_MAX_HALVINGS = 20
_ENOUGH = 1e-4  # share of the decrease that the slope promises (Armijo)
_ROUNDING = 1e-6  # relative; a smaller change of the loss in float32 is noise


@dataclass(frozen=True, slots=True)
class Fit:
    """Solutions of some problems.

    Attributes:
        weights: ``(feature_size + 1, num_problems)``, the bias last.
        converged: ``(num_problems,)`` bool: whether the gradient fell below the tolerance.
    """

    weights: Tensor
    converged: Tensor

    def scores(self, features: Tensor) -> Tensor:
        """Map ``(num_images, feature_size)`` to ``(num_images, num_problems)``."""
        return features @ self.weights[:-1] + self.weights[-1]


class Basis:
    """Features with a bias, turned onto their principal axes; made once for any number of fits.

    Attributes:
        data: ``(num_images, feature_size + 1)``, the turned features.
        axes: ``(feature_size + 1, feature_size + 1)``, an axis per column.
        strengths: ``(feature_size + 1,)``, mean square of ``data`` along each axis.
    """

    def __init__(self, features: Tensor) -> None:
        data = torch.cat([features, features.new_ones(len(features), 1)], dim=1)
        self.axes = torch.linalg.eigh(data.T @ data).eigenvectors
        self.data = data @ self.axes
        self.strengths = (self.data**2).mean(dim=0)


def fit(
    basis: Basis,
    targets: Tensor,
    penalties: Tensor,
    start: Tensor | None = None,
    *,
    max_iterations: int,
    tolerance: float = 1e-4,
) -> Fit:
    """Solve one problem for each column.

    Args:
        basis: of the features ``(num_images, feature_size)``, float32 or float64.
        targets: ``(num_images, num_problems)`` of 1 and -1.
        penalties: ``(num_images, num_problems)``: cost times class weight; 0 leaves an image out.
        start: weights to begin with, such as those of a smaller cost; None for zeros.
        max_iterations: conjugate-gradient steps of a problem, in all.
        tolerance: a problem is solved when its gradient's norm is below this share of the norm at zero.
    """
    data = basis.data
    targets, penalties = targets.to(data.dtype), penalties.to(data.dtype)
    weights = data.new_zeros(data.shape[1], targets.shape[1]) if start is None else basis.axes.T @ start
    goal = tolerance * (data.T @ (2 * penalties * targets)).norm(dim=0)
    left = torch.full((targets.shape[1],), max_iterations, device=data.device)
    converged = torch.zeros_like(left, dtype=torch.bool)
    pending = torch.arange(targets.shape[1], device=data.device)
    while len(pending):
        problem = _Problems(basis, targets[:, pending], penalties[:, pending])
        moved, norms, used = problem.newton_step(weights[:, pending], goal[pending], left[pending])
        weights[:, pending] = moved
        left[pending] -= used
        converged[pending] = norms <= goal[pending]
        pending = pending[~converged[pending] & (used > 0)]
    return Fit(basis.axes @ weights, converged)


class _Problems:
    """Some problems over the same data; weights are those of the basis."""

    def __init__(self, basis: Basis, targets: Tensor, penalties: Tensor) -> None:
        self.data = basis.data
        self.strengths = basis.strengths
        self.targets = targets
        self.penalties = penalties

    def newton_step(self, weights: Tensor, goal: Tensor, left: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Take one step of at most ``left`` conjugate-gradient steps where the gradient exceeds ``goal``.

        Returns:
            new weights, the norms of the gradients before the step, and the conjugate-gradient steps used.
        """
        outputs = self.data @ weights
        margins = self._margins(outputs)
        gradient = weights - self.data.T @ (2 * self.penalties * self.targets * margins)
        norms = gradient.norm(dim=0)
        curvature = 2 * self.penalties * (margins > 0)
        step, used = self._solve(curvature, gradient, torch.where(norms > goal, left, 0))
        return self._line_search(weights, step, outputs, (gradient * step).sum(dim=0)), norms, used

    def _solve(self, curvature: Tensor, gradient: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
        """Solve by conjugate gradients (1 + X^T curvature X) step = -gradient, from zero."""
        diagonal = 1 + self.strengths.unsqueeze(1) * curvature.sum(dim=0)  # as if the axes were independent
        step = torch.zeros_like(gradient)
        residual = -gradient
        direction = residual / diagonal
        product = (residual * direction).sum(dim=0)
        enough = _STEP_PRECISION * gradient.norm(dim=0)
        used = torch.zeros_like(left)
        running = torch.arange(len(left), device=left.device)
        while len(running := running[(used < left)[running] & (residual.norm(dim=0) > enough)[running]]):
            towards = direction[:, running]
            turned = towards + self.data.T @ (curvature[:, running] * (self.data @ towards))
            length = product[running] / (towards * turned).sum(dim=0)
            step[:, running] += length * towards
            residual[:, running] -= length * turned
            scaled = residual[:, running] / diagonal[:, running]
            new_product = (residual[:, running] * scaled).sum(dim=0)
            direction[:, running] = scaled + new_product / product[running] * towards
            product[running] = new_product
            used[running] += 1
        return step, used

    def _line_search(self, weights: Tensor, step: Tensor, outputs: Tensor, slope: Tensor) -> Tensor:
        """Take the first of 1, 1/2, 1/4, ... of the step that lowers the loss as its slope promises."""
        loss = self._loss(weights, outputs)
        change = self.data @ step
        share = torch.ones_like(loss)
        for _ in range(_MAX_HALVINGS):
            reached = self._loss(weights + share * step, outputs + share * change)
            poor = reached > loss * (1 + _ROUNDING) + _ENOUGH * share * slope
            if not bool(poor.any()):
                break
            share = torch.where(poor, share / 2, share)
        return weights + share * step

    def _margins(self, outputs: Tensor) -> Tensor:
        return (1 - self.targets * outputs).clamp(min=0)

    def _loss(self, weights: Tensor, outputs: Tensor) -> Tensor:
        return (weights**2).sum(dim=0) / 2 + (self.penalties * self._margins(outputs) ** 2).sum(dim=0)
