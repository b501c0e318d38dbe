"""A stage that torchrun starts again goes on in the MLflow run that its first start opened."""

from __future__ import annotations

import os
import socket

from components.core.process import process_mark
from components.tracking.provenance import HOST_TAG, PROCESS_TAG
from components.tracking.store import Store

LAUNCH_TAG = "torchrun.launch"


def launch_tags() -> dict[str, str]:
    """The tag by which a later start of the same launch finds its run; none outside torchrun."""
    launch = os.environ.get("TORCHELASTIC_RUN_ID")
    return {LAUNCH_TAG: launch} if launch else {}


def reopened_run(store: Store, tag: str, value: str) -> str | None:
    """Open once more the newest run of this launch with this tag; None if nothing was started before.

    Rows that are logged again after the checkpoint was read stand in the run twice, with the same values.
    Raises whatever MLflow raises.
    """
    launch = os.environ.get("TORCHELASTIC_RUN_ID")
    if not launch or os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
        return None
    found = store.client.search_runs(
        [store.experiment_id],
        filter_string=f"tags.`{tag}` = '{value}' and tags.`{LAUNCH_TAG}` = '{launch}'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    if not found:
        return None
    run_id = str(found[0].info.run_id)
    store.client.update_run(run_id, status="RUNNING")
    store.client.set_tag(run_id, HOST_TAG, socket.gethostname())
    store.client.set_tag(run_id, PROCESS_TAG, process_mark(os.getpid()))
    store.client.set_tag(run_id, "torchrun.restarts", os.environ["TORCHELASTIC_RESTART_COUNT"])
    return run_id
