"""A torch module as an MLflow model, in torch.export's format: no pickle on either side."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import ModelSignature
    from torch import Tensor, nn


def log_model(run_id: str, name: str, module: nn.Module, example: Tensor | Sequence[Tensor]) -> None:
    """Log ``module`` under ``name`` with signature and input example.

    Args:
        run_id: the run it belongs to.
        name: of the logged model.
        module: its forward takes the tensors of ``example`` by position; a copy of it, on the CPU and
            in eval mode, is logged.
        example: input, or inputs, of batch 2 or more: an exported batch of 1 would be frozen at 1.

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
    module = copy.deepcopy(module).cpu().eval()
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
        )
    except BaseException:
        with suppress(Exception):  # the first error is the one that matters
            delete_unfinished_models(client, experiment_id, run_id)
        raise


def delete_unfinished_models(client: MlflowClient, experiment_id: str, run_id: str) -> None:
    """Delete what a run began to log and never finished: MLflow makes the entry first.

    It would stand there as Failed or Pending for ever. Raises whatever MLflow raises.
    """
    for model in client.search_logged_models([experiment_id], filter_string=f"source_run_id = '{run_id}'"):
        if model.status != "READY":
            client.delete_logged_model(model.model_id)


def _signature(inputs: Sequence[Tensor], outputs: Any) -> ModelSignature:
    """Tensor signature with a free batch dimension."""
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
