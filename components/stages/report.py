"""Stage ``report``: this run beside the backbones it is compared with and the paper's figures."""

from typing import Any

from components import params
from components.core.files import write_json, write_text
from components.entry import run_stage
from components.params.reading import reasons_not_run, section_name
from components.report.charts import draw_report
from components.report.contents import backbone_candidate, read_report, run_context
from components.report.protocol import warn
from components.report.render import markdown, page
from components.report.words import headline_figures, result_of
from components.tracking import StageRun

SECTIONS = tuple(params.SECTIONS.values())  # the report says which parameters are not the paper's
NAMES = ("report.md", "report.json", "report.png", "report.html")


def main(run: StageRun, *sections: params.Section) -> None:
    """Write NAMES from whatever results there are; ``sections`` are all of params.yaml."""
    given: dict[str, Any] = {section_name(type(section)): section for section in sections}
    report, results, details = read_report(given, reasons_not_run(given), run_context(run.run_id is not None))
    warn(report["warnings"])
    folder = run.output_dir
    write_text(folder / "report.md", markdown(report))
    write_json(folder / "report.json", report)
    draw_report(folder / "report.png", report, details)
    write_text(folder / "report.html", page(report, details))
    for name in NAMES:
        run.artifact(folder / name)
    run.describe(report["headline"], "The report as one page", "report.html")
    run.metrics(headline_figures(results))
    candidate = backbone_candidate(result_of(results, "voc07.mAP").value(params.PRETRAINED), given)
    if candidate:
        run.text(candidate.card, "model_card.md")
        run.register(candidate)
    print(f"report: {folder / 'report.html'}", flush=True)


if __name__ == "__main__":
    run_stage("report", SECTIONS, main)
