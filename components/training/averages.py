"""Running means of device scalars that cost no transfer until they are read."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class Averages:
    """Means since the last reading; values that are not finite are left out of theirs.

    The latter concerns gradient norms under fp16, where the gradient scaler skips such steps.
    """

    def __init__(self) -> None:
        self._names: list[str] = []
        self._sums: Tensor | None = None
        self._counts: Tensor | None = None

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add one value a name, each a tensor of one element; the names must stay the same."""
        stacked = torch.stack([value.detach().reshape(()).double() for value in values.values()])
        finite = torch.isfinite(stacked)
        stacked = torch.where(finite, stacked, 0.0)
        if self._sums is None or self._counts is None:
            self._names, self._sums, self._counts = list(values), stacked, finite.long()
        elif self._names != list(values):
            raise ValueError(f"averages of {self._names} cannot take {list(values)}")
        else:
            self._sums += stacked
            self._counts += finite

    def read(self) -> dict[str, float]:
        """The means, names without a finite value left out; starts afresh."""
        if self._sums is None or self._counts is None:
            return {}
        gathered = zip(self._names, self._sums.tolist(), self._counts.tolist(), strict=True)
        means = {name: total / count for name, total, count in gathered if count}
        self._names, self._sums, self._counts = [], None, None
        return means

    def state_dict(self) -> dict[str, Any]:
        """What has been gathered since the last reading."""
        return {"names": self._names, "sums": self._sums, "counts": self._counts}

    def load_state_dict(self, state_dict: dict[str, Any], device: torch.device) -> None:
        """Go on from a saved state, on ``device``."""
        self._names = list(state_dict["names"])
        sums, counts = state_dict["sums"], state_dict["counts"]
        self._sums = None if sums is None else sums.to(device)
        self._counts = None if counts is None else counts.to(device)
