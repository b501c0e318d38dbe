"""Models in MLflow: logged in torch.export's format (no pickle on either side), the best one registered."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.models import ModelSignature
    from torch import Tensor, nn

    from components.tracking.datasets import UsedDataset
    from components.tracking.store import Store

BEST = "best"  # alias of the version that no later one has beaten
_SCORE_TAG = "score"
_DIGITS = 4  # that are kept of a score


def log_model(
    run_id: str, name: str, module: nn.Module, example: Tensor | Sequence[Tensor], weights: Path | None = None
) -> None:
    """Log ``module`` under ``name`` with signature and input example.

    Args:
        run_id: the run it belongs to.
        name: of the logged model.
        module: its forward takes the tensors of ``example`` by position; a copy of it, on the CPU and
            in eval mode, is logged.
        example: input, or inputs, of batch 2 or more: an exported batch of 1 would be frozen at 1.
        weights: file with the same weights, by which ``log_scores`` finds the model.

    Raises:
        ValueError: for a batch below 2.
        Exception: torch.export's if the forward cannot be exported, MLflow's if it cannot be stored. Either
            way MLflow has no model of that name from this run then, not even a failed one.
    """
    import mlflow
    import torch

    inputs = [example] if isinstance(example, torch.Tensor) else list(example)
    inputs = [tensor.detach().cpu() for tensor in inputs]
    if any(tensor.dim() == 0 or tensor.shape[0] < 2 for tensor in inputs):
        shapes = [tuple(tensor.shape) for tensor in inputs]
        raise ValueError(
            f"model {name!r}: the input example needs a batch of at least 2, got shapes {shapes}"
        )
    # torch.export warns of each weight that lies in channels_last
    module = copy.deepcopy(module).cpu().eval().to(memory_format=torch.contiguous_format)
    with torch.no_grad():
        outputs = module(*inputs)
    requirements = [f"{package}=={_version(package)}" for package in ("torch", "torchvision")]
    arrays = [tensor.numpy() for tensor in inputs]
    client = mlflow.MlflowClient()
    experiment_id = client.get_run(run_id).info.experiment_id
    mlflow.set_experiment(experiment_id=experiment_id)
    try:
        mlflow.pytorch.log_model(
            module,
            name=name,
            run_id=run_id,
            input_example=arrays[0] if len(arrays) == 1 else arrays,
            signature=_signature(inputs, outputs),
            pip_requirements=requirements,
            serialization_format="pt2",
            tags=_weights_tag(weights) if weights else None,
        )
    except BaseException:
        with suppress(Exception):  # the first error is the one that matters
            delete_unfinished_models(client, experiment_id, run_id)
        raise


def log_model_elsewhere(
    store: Store,
    run_id: str,
    name: str,
    weights: Path,
    scores: Mapping[str, float] | None = None,
    step: int | None = None,
) -> None:
    """Log a model without its weights, which DVC keeps in the file, and its figures as ``candidate.NAME``.

    Raises whatever MLflow raises.
    """
    from mlflow import create_external_model

    tags = {**_weights_tag(weights), "file": weights.as_posix()}
    model = create_external_model(name, run_id, tags, experiment_id=store.experiment_id)
    for key, score in (scores or {}).items():
        # under its own name: the run's latest figure is to be of its result, not of the last candidate
        store.client.log_metric(run_id, f"candidate.{key}", score, step=step, model_id=model.model_id)


def log_scores(
    store: Store, run_id: str, weights: Path, scores: Mapping[str, float], data: UsedDataset | None
) -> None:
    """Log figures of the run, and of the newest model whose weights are those of the file, if there is one.

    Raises whatever MLflow raises.
    """
    ((tag, digest),) = _weights_tag(weights).items()
    models = store.client.search_logged_models(
        [store.experiment_id], filter_string=f"tags.`{tag}` = '{digest}'", max_results=1
    )
    for name, score in scores.items():
        store.client.log_metric(
            run_id,
            name,
            score,
            dataset_name=data.name if data else None,
            dataset_digest=data.short_digest if data else None,
            model_id=models[0].model_id if models else None,
        )


def logged_model(store: Store, run_id: str, name: str) -> str | None:
    """Return the id of the model that a run has logged under a name; raises whatever MLflow raises."""
    found = store.client.search_logged_models(
        [store.experiment_id], filter_string=f"source_run_id = '{run_id}' AND name = '{name}'", max_results=1
    )
    return str(found[0].model_id) if found else None


def _weights_tag(weights: Path) -> dict[str, str]:
    from components.core.tensor_files import tensors_sha256

    return {"virtex.weights": tensors_sha256(weights)}


def delete_unfinished_models(client: MlflowClient, experiment_id: str, run_id: str) -> None:
    """Delete what a run began to log and never finished: MLflow makes the entry first.

    It would stand there as Failed or Pending for ever. Raises whatever MLflow raises.
    """
    for model in client.search_logged_models([experiment_id], filter_string=f"source_run_id = '{run_id}'"):
        if model.status != "READY":
            client.delete_logged_model(model.model_id)


@dataclass(frozen=True, slots=True)
class ModelCandidate:
    """A logged model with its score, among others that were scored in the same way on the same data.

    Attributes:
        name: of the registered model; one name for each way and data of scoring.
        about: description of the registered model.
        run_id: of the run that logged the model.
        logged_as: the name that it was logged under.
        score: the more, the better.
        score_title: for people, such as ``VOC07 mAP``.
        card: Markdown that follows in the version's description.
        tags: of the version.
    """

    name: str
    about: str
    run_id: str
    logged_as: str
    score: float
    score_title: str
    card: str
    tags: Mapping[str, str] = field(default_factory=dict)


def register_if_best(store: Store, candidate: ModelCandidate) -> str:
    """Register the model, if it beats the one called ``best``; return in words what was done.

    Raises whatever MLflow raises.
    """
    best = _best(store, candidate.name)
    if best is not None:
        record = float(best.tags[_SCORE_TAG])
        if best.run_id == candidate.run_id:
            return f"version {best.version} of {candidate.name}, the best as before"
        if round(candidate.score, _DIGITS) <= record:
            shown = f"{candidate.score:.2f} does not beat the {record:.2f} of version {best.version}"
            return f"not registered: {candidate.score_title} {shown} of {candidate.name}"
    model_id = logged_model(store, candidate.run_id, candidate.logged_as)
    if model_id is None:
        return f"not registered: no model was logged by the run {candidate.run_id}"
    _ensure(store, candidate)
    beaten = "" if best is None else f"; it beats version {best.version}, which has {best.tags[_SCORE_TAG]}"
    version = store.client.create_model_version(
        candidate.name,
        source=f"models:/{model_id}",
        run_id=candidate.run_id,
        model_id=model_id,
        tags={**candidate.tags, _SCORE_TAG: f"{candidate.score:.{_DIGITS}f}"},
        description=f"{candidate.score_title} {candidate.score:.2f}{beaten}.\n\n{candidate.card}",
    )
    store.client.set_registered_model_alias(candidate.name, BEST, version.version)
    return f"version {version.version} of {candidate.name}, the best so far"


def _signature(inputs: Sequence[Tensor], outputs: Any) -> ModelSignature:
    """Return a tensor signature with a free batch dimension."""
    from mlflow.models import ModelSignature
    from mlflow.types import Schema

    named = outputs if isinstance(outputs, Mapping) else None
    if named is None:
        listed = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
        named = {f"output_{i}": value for i, value in enumerate(listed)}
    given = {f"input_{i}": value for i, value in enumerate(inputs)}
    return ModelSignature(inputs=Schema(_specs(given)), outputs=Schema(_specs(named)))


def _specs(tensors: Mapping[str, Any]) -> list[Any]:
    import torch
    from mlflow.types import TensorSpec

    kept = {name: value for name, value in tensors.items() if isinstance(value, torch.Tensor)}
    return [
        TensorSpec(
            value.numpy().dtype,
            (-1, *value.shape[1:]) if value.dim() else (),
            name if len(kept) > 1 else None,
        )
        for name, value in kept.items()
    ]


def _version(package: str) -> str:
    return metadata.version(package).partition("+")[0]


def _best(store: Store, name: str) -> ModelVersion | None:
    from mlflow.exceptions import MlflowException

    try:
        found = store.client.get_model_version_by_alias(name, BEST)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):  # no model, no alias
            return None
        raise
    return found if found is not None and _SCORE_TAG in found.tags else None


def _ensure(store: Store, candidate: ModelCandidate) -> None:
    from mlflow.exceptions import MlflowException

    try:
        store.client.create_registered_model(candidate.name, description=candidate.about)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
