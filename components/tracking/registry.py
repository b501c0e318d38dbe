"""The model registry: the best backbone so far, as the newest version of a registered model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

    from components.tracking.store import Store

BEST = "best"  # alias of the version that no later one has beaten
_SCORE_TAG = "score"
_DIGITS = 4  # that are kept of a score


@dataclass(frozen=True, slots=True)
class Contender:
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


def register_if_best(store: Store, contender: Contender) -> str:
    """Register the model, if it beats the one called ``best``; returns in words what was done.

    Raises whatever MLflow raises.
    """
    best = _best(store, contender.name)
    if best is not None:
        record = float(best.tags[_SCORE_TAG])
        if best.run_id == contender.run_id:
            return f"version {best.version} of {contender.name}, the best so far"
        if round(contender.score, _DIGITS) <= record:
            shown = f"{contender.score:.2f} does not beat the {record:.2f} of version {best.version}"
            return f"not registered: {contender.score_title} {shown} of {contender.name}"
    models = store.client.search_logged_models(
        [store.experiment_id],
        filter_string=f"source_run_id = '{contender.run_id}' AND name = '{contender.logged_as}'",
        max_results=1,
    )
    if not models:
        return f"not registered: no model was logged by the run {contender.run_id}"
    _ensure(store, contender)
    beaten = "" if best is None else f"; it beats version {best.version}, which has {best.tags[_SCORE_TAG]}"
    version = store.client.create_model_version(
        contender.name,
        source=f"models:/{models[0].model_id}",
        run_id=contender.run_id,
        model_id=models[0].model_id,
        tags={**contender.tags, _SCORE_TAG: f"{contender.score:.{_DIGITS}f}"},
        description=f"{contender.score_title} {contender.score:.2f}{beaten}.\n\n{contender.card}",
    )
    store.client.set_registered_model_alias(contender.name, BEST, version.version)
    return f"version {version.version} of {contender.name}, the best so far"


def _best(store: Store, name: str) -> ModelVersion | None:
    from mlflow.exceptions import MlflowException

    try:
        found = store.client.get_model_version_by_alias(name, BEST)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):  # no model, no alias
            return None
        raise
    return found if found is not None and _SCORE_TAG in found.tags else None


def _ensure(store: Store, contender: Contender) -> None:
    from mlflow.exceptions import MlflowException

    try:
        store.client.create_registered_model(contender.name, description=contender.about)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
