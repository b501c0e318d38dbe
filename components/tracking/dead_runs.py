"""Runs whose process was killed stay RUNNING in MLflow for ever unless somebody closes them."""

from __future__ import annotations

import socket

from components.tracking.provenance import HOST_TAG, PROCESS_TAG, STAGE_TAG, is_alive
from components.tracking.store import Store


def close_dead_runs(store: Store, stage: str) -> list[str]:
    """End, as KILLED, the runs of ``stage`` that a dead process of this machine left open.

    Returns their ids.
    """
    found = store.client.search_runs(
        [store.experiment_id],
        filter_string=(
            f"attributes.status = 'RUNNING' and tags.`{STAGE_TAG}` = '{stage}' "
            f"and tags.`{HOST_TAG}` = '{socket.gethostname()}'"
        ),
    )
    dead = [run.info.run_id for run in found if not is_alive(run.data.tags.get(PROCESS_TAG, ""))]
    for run_id in dead:
        store.client.set_terminated(run_id, "KILLED")
    return dead
