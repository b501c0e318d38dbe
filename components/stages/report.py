"""Stage ``report``: this run beside the backbones it is compared with and the paper's figures."""

import hashlib
import json
from dataclasses import asdict
from typing import Any

from components import params
from components.core import machine, paths
from components.core.files import write_json, write_text
from components.dataset_titles import title_here
from components.entry import run_stage
from components.export.model_card import registry_card
from components.params.reading import reasons_not_run, section_name
from components.report.charts import draw_report
from components.report.contents import read_report
from components.report.files import read_json
from components.report.protocol import warn
from components.report.render import markdown, page
from components.report.words import headline_figures, result_of
from components.tracking import ModelCandidate, StageRun
from components.tracking.parents import preset_in_force
from components.tracking.provenance import provenance
from components.tracking.stage_times import stage_times

SECTIONS = tuple(params.SECTIONS.values())  # the report says which parameters are not the paper's
VOC2007_IMAGES = {"trainval": 5011, "test": 4952}
NAMES = ("report.md", "report.json", "report.png", "report.html")


def main(run: StageRun, *sections: params.Section) -> None:
    """Write NAMES from whatever results there are; ``sections`` are all of params.yaml."""
    given: dict[str, Any] = {section_name(type(section)): section for section in sections}
    report, results, details = read_report(given, reasons_not_run(given), _context(run.run_id is not None))
    warn(report["warnings"])
    folder = run.output_dir
    write_text(folder / "report.md", markdown(report))
    write_json(folder / "report.json", report)
    draw_report(folder / "report.png", report, details)
    write_text(folder / "report.html", page(report, details))
    for name in NAMES:
        run.artifact(folder / name)
    run.describe("The report as one page", "report.html")
    run.metrics(headline_figures(results))
    _register(run, result_of(results, "voc07.mAP").value(params.PRETRAINED), given)
    print(f"report: {folder / 'report.html'}", flush=True)


def _register(run: StageRun, score: float | None, given: dict[str, Any]) -> None:
    """Register the pretrained backbone with its card, if none has a better mAP on this VOC2007."""
    selected = (read_json(paths.stage_dir("select") / paths.MLFLOW_RUN_FILE, []) or {}).get("run_id")
    voc = (read_json(paths.DATASETS_MANIFEST, []) or {}).get("voc2007")
    if score is None or not selected or not voc:
        return
    sizes, listings = voc["images"], json.dumps(voc["listings"], sort_keys=True)
    digest = hashlib.sha256(listings.encode()).hexdigest()
    data = "voc2007" if sizes == VOC2007_IMAGES else f"{given['download'].source}-{digest[:8]}"
    name = f"virtex-backbone-{data}"
    config = {"textual_head": given["textual_head"].model_dump()}
    metadata = {
        "architecture": given["backbone"].name,
        "objective": given["objective"].name,
        "pretraining_config": json.dumps(config),
    }
    card = registry_card(metadata, name)
    run.text(card, "model_card.md")
    images = f"{sizes['test']} test images of {title_here('voc2007')}"
    candidate = ModelCandidate(
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
    run.register(candidate)


def _context(has_record: bool) -> dict[str, Any]:
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
        {key: value for key, value in asdict(time).items() if key != "tags"}
        for time in (stage_times(paths.OUTPUTS_DIR) if has_record else ())
        if time.stage != "report"
    ]
    presets = params.matching_presets() if paths.PARAMS.is_file() else []
    return {"environment": environment, "stages": stages, "preset": presets[0] if presets else None}


if __name__ == "__main__":
    run_stage("report", SECTIONS, main)
