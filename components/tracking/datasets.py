"""The datasets that a run read, as MLflow's inputs: named, with a digest, so that runs can be told apart."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

    from components.tracking.store import Store

_CONTEXT_TAG = "mlflow.data.context"
_DIGEST_LENGTH = 16  # of the hexadecimal digits; MLflow takes 36 characters


@dataclass(frozen=True, slots=True)
class UsedDataset:
    """One split of one dataset.

    Attributes:
        name: for people, such as ``coco val``.
        digest: SHA-256 of what identifies its content, in hexadecimal.
        context: what for: ``training``, ``validation``, ``test``.
        source: where it comes from, no path of this machine.
        profile: figures of it, such as ``images``.
    """

    name: str
    digest: str
    context: str
    source: str
    profile: Mapping[str, int | str] = field(default_factory=dict)


def log_datasets(store: Store, run_id: str, datasets: Iterable[UsedDataset]) -> None:
    """Log them as inputs of the run; raises whatever MLflow raises."""
    inputs = [_input(dataset) for dataset in datasets]
    if inputs:
        store.client.log_inputs(run_id, datasets=inputs)


def hand_up_datasets(store: Store, run_id: str, below: Iterable[str]) -> None:
    """Let a run have the inputs of the runs ``below``, each once; raises whatever MLflow raises.

    Those that this store does not know, made by another one and restored from DVC's cache, are left out.
    """
    from mlflow.exceptions import MlflowException

    found: dict[tuple[str, str, str], DatasetInput] = {}
    for child in below:
        try:
            inputs = store.client.get_run(child).inputs
        except MlflowException:
            continue
        for given in inputs.dataset_inputs if inputs else ():
            contexts = [tag.value for tag in given.tags if tag.key == _CONTEXT_TAG]
            found[given.dataset.name, given.dataset.digest, "".join(contexts)] = given
    if found:
        store.client.log_inputs(run_id, datasets=list(found.values()))


def _input(dataset: UsedDataset) -> DatasetInput:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    return DatasetInput(
        Dataset(
            name=dataset.name,
            digest=dataset.digest[:_DIGEST_LENGTH],
            source_type="local",
            source=json.dumps({"uri": dataset.source}),
            profile=json.dumps(dict(dataset.profile)),
        ),
        [InputTag(_CONTEXT_TAG, dataset.context)],
    )
