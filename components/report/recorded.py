"""The record of the run as the report reads it, and the model that it registers there."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from components import params
from components.core import machine, paths
from components.dataset_titles import title_here
from components.export.model_card import registry_card
from components.report.files import read_json
from components.tracking import ModelCandidate
from components.tracking.pipeline_run import preset_in_force, stage_times
from components.tracking.provenance import provenance

VOC2007_IMAGES = {"trainval": 5011, "test": 4952}


def run_context(has_record: bool) -> dict[str, Any]:
    """Describe this process, and the stages' MLflow runs if there is MLflow."""
    tags = provenance("report", "components.stages.report")
    names = {
        "mlflow.source.git.commit": "Commit",
        "virtex.host": "Host",
        "version.python": "Python",
        **{f"version.{package}": package for package in ("torch", "torchvision", "dvc", "mlflow", "prefect")},
    }
    environment = {title: tags[key] for key, title in names.items() if key in tags}
    environment["Device"] = machine.device_name()
    stages = [
        asdict(time)
        for time in (stage_times(paths.OUTPUTS_DIR) if has_record else ())
        if time.stage != "report"
    ]
    presets = params.matching_presets() if paths.PARAMS.is_file() else []
    return {"environment": environment, "stages": stages, "preset": presets[0] if presets else None}


def backbone_candidate(score: float | None, given: Mapping[str, Any]) -> ModelCandidate | None:
    """Return the pretrained backbone with its card, for the registry of those measured on this VOC2007.

    None where there is no such score, or no record of it.

    Args:
        score: its VOC07 mAP in percent.
        given: sections of params.yaml by name.
    """
    selected = (read_json(paths.stage_dir("select") / paths.MLFLOW_RUN_FILE, []) or {}).get("run_id")
    voc = (read_json(paths.DATASETS_MANIFEST, []) or {}).get("voc2007")
    if score is None or not selected or not voc:
        return None
    sizes, listings = voc["images"], json.dumps(voc["listings"], sort_keys=True)
    digest = hashlib.sha256(listings.encode()).hexdigest()
    data = "voc2007" if sizes == VOC2007_IMAGES else f"{given['download'].source}-{digest[:8]}"
    name = f"virtex-backbone-{data}"
    config = {"textual_head": given["textual_head"].model_dump()}
    metadata = {
        "architecture": given["backbone"].name,
        "objective": given["objective"].name,
        "pretraining_config": json.dumps(config),
        "resolution": str(given["augmentation"].crop_size),
    }
    card = registry_card(metadata, name)
    images = f"{sizes['test']} test images of {title_here('voc2007')}"
    return ModelCandidate(
        name=name,
        about=f"Backbones pretrained on captions, compared by VOC07 mAP on {images}.",
        run_id=selected,
        logged_as="backbone",
        score=score,
        score_title="VOC07 mAP",
        card=card,
        tags={
            "preset": preset_in_force(),
            "backbone": metadata["architecture"],
            "objective": metadata["objective"],
        },
    )
