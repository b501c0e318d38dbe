"""The datasets that a run read, as MLflow's inputs: named, with a digest, so that runs can be told apart."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Protocol

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

    @property
    def short_digest(self) -> str:
        """As MLflow has it."""
        return self.digest[:_DIGEST_LENGTH]


class ListedDataset(Protocol):
    """A dataset in the manifest, as far as it matters here."""

    @property
    def root(self) -> str: ...

    @property
    def images(self) -> Mapping[str, int]: ...

    @property
    def listings(self) -> Mapping[str, str]: ...


def used_splits(name: str, entry: ListedDataset, contexts: Mapping[str, str]) -> list[UsedDataset]:
    """Return the splits of a dataset in the manifest that ``contexts`` names, with what each is used for.

    A split without a listing has nothing to tell it by, and is left out.
    """
    source = PurePath(entry.root).name  # folders of this machine tell nobody anything
    found: list[UsedDataset] = []
    for split, context in contexts.items():
        if split in entry.listings:
            profile = {"images": entry.images[split]} if split in entry.images else {}
            found.append(UsedDataset(f"{name} {split}", entry.listings[split], context, source, profile))
    return found


def log_datasets(store: Store, run_id: str, datasets: Iterable[UsedDataset]) -> None:
    """Log them as inputs of the run; raises whatever MLflow raises."""
    inputs = [_input(dataset) for dataset in datasets]
    if inputs:
        store.client.log_inputs(run_id, datasets=inputs)


def inherit_datasets(store: Store, run_id: str, below: Iterable[str]) -> None:
    """Log the inputs of the runs ``below`` as a run's own, each once; raises whatever MLflow raises.

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
            digest=dataset.short_digest,
            source_type="local",
            source=json.dumps({"uri": dataset.source}),
            profile=json.dumps(dict(dataset.profile)),
        ),
        [InputTag(_CONTEXT_TAG, dataset.context)],
    )
