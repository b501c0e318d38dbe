"""The report, gathered from the stages' own files: report.json, of which all other forms are made.

No form shows a number that is not in here. What is missing is said, not fatal. Beside it stand what the run
cost, and the model that it registers.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from components import params
from components.core import machine, paths
from components.core.published import GROUPS, SOURCE, published_model
from components.dataset_titles import layout_note, read_titles, title_here
from components.export.model_card import registry_card
from components.params import PRETRAINED
from components.params.families import SEEDS, digest_without_seeds
from components.params.yaml_files import load_yaml
from components.report.details import Details, gather_details, read_classes
from components.report.files import read_json, read_metrics
from components.report.protocol import (
    compared,
    pretraining_differences,
    read_protocol,
    read_setup,
    result_differences,
    warnings,
)
from components.report.results import OTHER_PROTOCOL_MARK, Result, read_results
from components.report.words import (
    captions_line,
    captions_warning,
    comparability,
    data_line,
    dataset_titles,
    headline,
    legend,
    loss_parts,
    problem_lines,
    protocol_line,
    taught_by,
)
from components.tracking import ModelCandidate
from components.tracking.pipeline_run import preset_in_force, stage_times
from components.tracking.provenance import provenance

VOC2007_IMAGES = {"trainval": 5011, "test": 4952}
SEEDS_COMPARISON = paths.OUTPUTS_DIR / "ablations" / SEEDS / "comparison.json"
NO_DIFFERENCE = "no difference"


def read_report(
    given: Mapping[str, Any], not_run: Mapping[str, str], around: Mapping[str, Any]
) -> tuple[dict[str, Any], list[Result], Details]:
    """Return the report, the results in it, and what the page draws beside it.

    Args:
        given: sections of params.yaml by name.
        not_run: why benchmarks are not run, by name; ``virtex run`` starts no process for them.
        around: as `run_context` returns it.
    """
    asked, missing = given["benchmarks"], list[str]()
    backbones = tuple(dict.fromkeys((*asked.backbones, *asked.detection_backbones)))
    pretraining, captioning, choice = (
        read_metrics(paths.stage_dir(stage), missing) for stage in ("pretrain", "caption", "select")
    )
    class_aps = read_classes("voc07", asked.backbones, [] if "voc07" in not_run else missing)
    details = gather_details(backbones, captioning.get("dataset"), missing)
    setup, manifest = read_setup(given), read_titles()
    published = published_model(setup)
    protocol = read_protocol(published)
    results = read_results(setup, asked, not_run)
    rows = [
        result.as_json(
            order,
            result.benchmark.title + layout_note(result.benchmark.name, manifest),
            result_differences(result, setup, published, protocol),
        )
        for order, result in enumerate(results)
    ]
    report = {
        "format": "virtex-report",
        "version": 4,
        "title": f"What this run learned from {taught_by(setup.objective)}",
        "headline": headline(results, setup.objective),
        "data": data_line(manifest),
        "backbones": list(backbones),
        "groups": dict(GROUPS),
        "results": rows,
        "seeds": read_seeds(results),
        "legend": legend(results, backbones, published),
        "warnings": [*warnings(results, protocol), *captions_warning(captioning)],
        "problems": problem_lines(results, manifest),
        "published": {"source": SOURCE, "model": published.name},
        "comparable": any(row["comparable"] for row in rows),
        "comparability": comparability(rows, setup, published, protocol),
        "pretraining_differences": pretraining_differences(setup, published, protocol),
        "setup": {
            name: {"this_run": ours, "published": theirs} for name, ours, theirs in compared(setup, published)
        },
        "protocol": {
            "preset": protocol.preset,
            "differences": [asdict(difference) for difference in protocol.differences],
            "line": protocol_line(protocol),
        },
        "pretraining": pretraining,
        "pretraining_losses": loss_parts(pretraining),
        "choice": choice,
        "candidates": details.candidates,
        "captioning": captioning,
        "captions_line": captions_line(captioning),
        "captions": details.captions,
        "voc07_class_ap": {name: class_aps.get(name, {}) for name in asked.backbones},
        "classes": {stage: asdict(found) for stage, found in details.classes.items()},
        "frequency": details.frequency,
        "datasets": details.datasets,
        "dataset_titles": dataset_titles(manifest),
        **around,
        "seconds": sum(stage["seconds"] for stage in around["stages"]),
        "missing": missing,
    }
    return report, results, details


def read_seeds(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return what `virtex ablate seeds` has shown of the run with these parameters, seeds aside.

    A row per result of which several seeds are known; none if those are of other parameters. The stage
    `report` does not depend on them, for they may be absent; the family renews the report when it ends.
    Each has ``title``, ``number`` of seeds, ``mean`` and ``standard_error`` in percent; where there is a
    random backbone, ``gain`` with ``low`` and ``high``, the 95 % interval of its mean; ``mark`` of another
    protocol than this run's; ``remark``.
    """
    try:
        (row,) = read_json(SEEDS_COMPARISON, [])["rows"]
        if row["digest"] != digest_without_seeds(load_yaml(paths.PARAMS)):
            return []
        return list(_means_over_seeds(row, results))
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _means_over_seeds(row: Mapping[str, Any], results: Sequence[Result]) -> Iterator[dict[str, Any]]:
    for result in results:
        key = result.benchmark.key
        values = row["seeds"].get(key, {})
        if len(values) < 2:
            continue
        interval = row["gain_intervals"].get(key)
        low, high = interval or (None, None)
        same = {result.protocols.get(PRETRAINED, "")} >= {*row["protocols"][key]}
        yield {
            "title": result.benchmark.row_title,
            "number": len(values),
            "mean": row["figures"][key],
            "standard_error": row["standard_errors"][key],
            "gain": row["gains"].get(key),
            "low": low,
            "high": high,
            "mark": "" if same else OTHER_PROTOCOL_MARK,
            "remark": NO_DIFFERENCE if interval and interval[0] <= 0 <= interval[1] else "",
        }


def run_context(has_record: bool) -> dict[str, Any]:
    """Return when and where the run was, and what it cost.

    ``environment`` of this process by title; ``stages``, each its last real run as ``stage``, ``started``,
    ``seconds``, ``run_id``, ``link``, empty without MLflow; ``preset`` in force, or None.

    Args:
        has_record: whether there is MLflow.
    """
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
