"""How many examples the property tests try: few by default, many where they are marked slow."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

_CHECKS = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


def both_sizes(few: int, many: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Parametrize a test that takes ``profile``, settings of hypothesis: quick ones, and slow ones."""
    common = {"deadline": None, "suppress_health_check": _CHECKS, "database": None}
    return pytest.mark.parametrize(
        "profile",
        [
            pytest.param(settings(max_examples=few, derandomize=True, **common), id=f"{few}"),
            pytest.param(settings(max_examples=many, **common), id=f"{many}", marks=pytest.mark.slow),
        ],
    )
