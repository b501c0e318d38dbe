"""Which MLflow store is written to, and how it comes to exist."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from components.core.errors import InputError
from components.core.files import locked
from components.tracking.database import ensure_database, explain_failure, follow_move

if TYPE_CHECKING:
    from mlflow import MlflowClient

DATABASE = Path("mlflow.db")
ARTIFACTS_DIR = Path("mlartifacts")
PARENT_RUN_VARIABLE = "VIRTEX_PARENT_RUN_ID"
# MLflow's own defaults let an unreachable server hold a process for minutes; all three tools send telemetry.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",  # seconds
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "DVC_NO_ANALYTICS": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "GIT_PYTHON_REFRESH": "quiet",
}
_ABOUT = (  # the experiment's description
    "Backbones pretrained on captions (VirTex), and what benchmarks say of them: one run for each start of "
    "the pipeline, its stages below it. voc07.mAP and the like are the pretrained backbone's, in percent; "
    "_gain is that over a random one. The tab Models compares backbones."
)

# How the table of runs opens: the columns by which runs are compared, in this order (MLflow 3.15 and newer),
# as a shared view. MLflow keeps it as a tag of the experiment; the share button of its page writes the same.
_TRAINING = "workflowType=machine_learning"  # else a browser opens the pages for language models
_VIEW = "virtex"
VIEW_TAG = f"mlflow.sharedViewState.{_VIEW}"
COLUMNS = {  # the figures are those of the report
    "metrics": (
        "voc07.mAP",
        "voc07.mAP_gain",
        "imagenet_linear.top1",
        "imagenet_linear.top1_gain",
        "inaturalist.top1",
        "caption.CIDEr-D",
        "pretrain.val_loss",
        "pretrain.images_per_second",
    ),
    "tags": ("preset",),
    "params": (
        "objective.name",
        "backbone.name",
        "textual_head.hidden_size",
        "textual_head.num_layers",
        "subset.image_fraction",
        "schedule.iterations",
        "pretrain.batch_size",
    ),
}


class Store(NamedTuple):
    """An open MLflow store and the experiment that runs go to."""

    client: MlflowClient
    experiment_id: str
    uri: str


class AccessRefused(InputError):
    """MLflow's server wants another user or password."""


def prepare_environment() -> None:
    """Set patience and privacy of MLflow, DVC and Prefect for this process and its children.

    Has to precede their import; what the user has set already is left alone.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def tracking_uri() -> str:
    """Return ``MLFLOW_TRACKING_URI``, else the SQLite file at the root of the repository (working folder)."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{DATABASE.absolute()}"


def experiment_name() -> str:
    """Return ``MLFLOW_EXPERIMENT_NAME``, else ``virtex``."""
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or "virtex"


def public_uri(uri: str) -> str | None:
    """Return ``uri`` if it can be shown and stored: no credentials in it, and no path of this machine."""
    parts = urlsplit(uri)
    if parts.scheme in ("sqlite", "file", "") or parts.username or parts.password or parts.query:
        return None
    return uri


def page_link(experiment_id: str, path: str) -> str:
    """Return the link, within MLflow, to a page of the experiment such as ``runs/ID`` or ``models/ID``."""
    return f"#/experiments/{experiment_id}/{path}?{_TRAINING}"


def run_page(store: Store, run_id: str, tab: str = "") -> str | None:
    """Return the address of a run's page, ``tab`` of it; None where MLflow is a file of this machine."""
    uri = public_uri(store.uri)
    return f"{uri.rstrip('/')}/{page_link(store.experiment_id, f'runs/{run_id}{tab}')}" if uri else None


def runs_page(address: str, experiment_id: str) -> str:
    """Return the page of the experiment's runs on the MLflow server at ``address``, in that view."""
    return f"{address.rstrip('/')}/{page_link(experiment_id, 'runs')}&viewStateShareKey={_VIEW}"


def open_store() -> Store:
    """Connect to the store and find or create the experiment (``MLFLOW_EXPERIMENT_NAME``, else ``virtex``).

    Several processes that create a SQLite database at once break it, so that is done under a file lock.
    Raises whatever MLflow raises when the store is out of reach, AccessRefused where a password is missing or
    wrong, and InputError for a file that is damaged.
    """
    prepare_environment()
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # one warning, ours, is enough
    import mlflow

    uri = tracking_uri()
    name = experiment_name()
    mlflow.set_tracking_uri(uri)
    if not uri.startswith("sqlite:"):
        client = mlflow.MlflowClient(uri)
        with refusal_explained(uri):
            return Store(client, _experiment(client, name, None), uri)
    database = Path(uri.removeprefix("sqlite:///"))
    with locked(database.with_name(database.name + ".lock")):
        ensure_database(database)
        artifacts = (database.parent / ARTIFACTS_DIR).absolute()
        follow_move(database, artifacts)
        try:
            client = mlflow.MlflowClient(uri)
            return Store(client, _experiment(client, name, artifacts.as_uri()), uri)
        except Exception as error:
            if explained := explain_failure(database, error):
                raise explained from error
            raise


@contextmanager
def refusal_explained(uri: str) -> Iterator[None]:
    """Within it MLflow is asked, and raises AccessRefused where it would let in another user or password."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.get_http_status_code() != 401:
            raise
        place = f"MLflow at {public_uri(uri) or 'the address in MLFLOW_TRACKING_URI'}"
        names = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        if os.environ.get("MLFLOW_TRACKING_PASSWORD"):
            raise AccessRefused(f"{place} refuses the user or the password; correct {names}") from error
        raise AccessRefused(f"{place} wants a user and a password; set {names}") from error


def require_access(uri: str) -> None:
    """Ask MLflow's server for what it tells its users only. Whatever else is wrong with it is not looked at.

    Raises:
        AccessRefused: it wants another user or password.
    """
    prepare_environment()
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    with suppress(MlflowException), refusal_explained(uri):
        MlflowClient(uri).search_experiments(max_results=1)


def warm_up() -> None:
    """Do beforehand what ``open_store`` takes seconds for: MLflow's import, and a database that is a file."""
    import mlflow  # noqa: F401

    if tracking_uri().startswith("sqlite:"):
        with suppress(Exception):  # whoever needs it will be told
            open_store()


def experiment_tags() -> dict[str, str]:
    """Return the tags that let MLflow open the pages for model training, with our columns."""
    columns = [f"{kind}.`{name}`" for kind, names in COLUMNS.items() for name in names]
    shown = [*columns, "attributes.`Dataset`"]
    order = {"orderByKey": "attributes.start_time", "orderByAsc": False}  # of the rows
    view = {"selectedColumns": shown, "columnOrder": shown, **order}
    # not those for language-model traces
    return {
        "mlflow.experimentKind": "custom_model_development",
        "mlflow.note.content": _ABOUT,
        VIEW_TAG: json.dumps(view),
    }


def _experiment(client: MlflowClient, name: str, artifact_location: str | None) -> str:
    from mlflow.exceptions import MlflowException

    tags = experiment_tags()
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name, artifact_location, tags=tags)
        except MlflowException:  # somebody else created it between the two calls
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    if found.tags.get(VIEW_TAG) != tags[VIEW_TAG]:
        with suppress(MlflowException):  # of runs nothing is lost where we may not, or another does just now
            client.set_experiment_tag(found.experiment_id, VIEW_TAG, tags[VIEW_TAG])
    return found.experiment_id
