"""What was unpacked against what was published: the last check on an archive, and on our facts."""

from collections.abc import Mapping
from typing import Any

from components.core.datasets import DATASETS
from components.core.errors import InputError


def require_counts(dataset: str, figures: Mapping[str, Any]) -> None:
    """Compare a dataset's figures with its published counts.

    Args:
        dataset: one of ``DATASETS``.
        figures: counts by split, as the readers give them; objects may be counted by class.

    Raises:
        InputError: they differ; names all differences.
    """
    faults = []
    for split, expected in DATASETS[dataset].counts.items():
        for what, number in expected.items():
            found = figures.get(split, {}).get(what, 0)
            found = sum(found.values()) if isinstance(found, Mapping) else found
            if found != number:
                faults.append(f"{split} has {found:,} {what}, expected {number:,}")
    if faults:
        raise InputError(
            f"download@{dataset}: {'; '.join(faults)}. The archives are not what was published: remove "
            f"datasets/archives/{dataset} and run `dvc repro -f download@{dataset}`"
        )
