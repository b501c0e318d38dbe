"""How MLflow's table of runs opens: the columns by which runs are compared, as a shared view.

MLflow keeps such a view as a tag of the experiment; the share button of its page writes the same.
"""

import json

_KEY = "virtex"
VIEW_TAG = f"mlflow.sharedViewState.{_KEY}"
COLUMNS = {  # the figures are those of the report
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
    "metrics": (
        "virtex_mAP",
        "random_mAP",
        "difference",
        "imagenet_linear.top1",
        "inaturalist.top1",
        "CIDEr-D",
        "pretrain.val_loss",
        "pretrain.images_per_second",
    ),
}


def view_state() -> str:
    """The tag's value."""
    columns = [f"{kind}.`{name}`" for kind, names in COLUMNS.items() for name in names]
    shown = ["attributes.`Dataset`", *columns]
    return json.dumps({"selectedColumns": shown, "orderByKey": "attributes.start_time", "orderByAsc": False})


def runs_page(address: str, experiment_id: str) -> str:
    """The page of the experiment's runs on the MLflow server at ``address``, in that view."""
    query = f"workflowType=machine_learning&viewStateShareKey={_KEY}"
    return f"{address.rstrip('/')}/#/experiments/{experiment_id}/runs?{query}"
