"""Stage ``report``: this run beside the backbones it is compared with and the paper's figures."""

from components import params
from components.atomic import write_json, write_text
from components.benchmarks.report_data import gather
from components.benchmarks.report_picture import draw_report
from components.benchmarks.report_setup import configured_setup
from components.benchmarks.report_table import headline_figures, markdown, report_json
from components.entry import run_stage
from components.tracking import StageRun

SECTIONS = (
    params.Benchmarks,
    params.Download,
    params.Backbone,
    params.TextualHead,
    params.Objective,
    params.Subset,
    params.Schedule,
    params.Pretrain,
)


def main(
    run: StageRun,
    benchmarks: params.Benchmarks,
    download: params.Download,
    backbone: params.Backbone,
    textual_head: params.TextualHead,
    objective: params.Objective,
    subset: params.Subset,
    schedule: params.Schedule,
    pretrain: params.Pretrain,
) -> None:
    """Write report.md, report.json and report.png from whatever results there are."""
    data = gather(
        configured_setup(download, backbone, textual_head, objective, subset, schedule, pretrain),
        benchmarks.backbones,
    )
    write_text(run.output_dir / "report.md", markdown(data))
    write_json(run.output_dir / "report.json", report_json(data))
    draw_report(run.output_dir / "report.png", data)
    for name in ("report.md", "report.json", "report.png"):
        run.artifact(run.output_dir / name)
    run.metrics(headline_figures(data))
    print(f"report: {run.output_dir / 'report.md'}", flush=True)


if __name__ == "__main__":
    run_stage("report", SECTIONS, main)
