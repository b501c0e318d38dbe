"""Runs whose process was killed stay RUNNING in MLflow for ever unless somebody closes them."""

from __future__ import annotations

import socket

from components.core.process import is_alive
from components.tracking.model import delete_unfinished_models
from components.tracking.provenance import HOST_TAG, PROCESS_TAG
from components.tracking.store import Store


def close_dead_runs(store: Store, tag: str, value: str) -> list[str]:
    """End, as KILLED, the open runs with this tag whose process, on this machine, is dead.

    Returns their ids.
    """
    return _close(store, f"and tags.`{tag}` = '{value}' ")


def close_all_dead_runs(store: Store) -> list[str]:
    """The same for all runs of the experiment."""
    return _close(store, "")


def _close(store: Store, condition: str) -> list[str]:
    found = store.client.search_runs(
        [store.experiment_id],
        filter_string=(
            f"attributes.status = 'RUNNING' {condition}and tags.`{HOST_TAG}` = '{socket.gethostname()}'"
        ),
    )
    dead = [run.info.run_id for run in found if not is_alive(run.data.tags.get(PROCESS_TAG, ""))]
    for run_id in dead:
        store.client.set_terminated(run_id, "KILLED")
        delete_unfinished_models(store.client, store.experiment_id, run_id)
    return dead
