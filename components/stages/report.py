"""Stage ``report``: this run beside the backbones it is compared with and the paper's figures."""

from components import params
from components.atomic import write_json, write_text
from components.benchmarks.report_data import gather
from components.benchmarks.report_picture import draw_report
from components.benchmarks.report_table import headline_figures, markdown, report_json
from components.entry import run_stage
from components.published import Setup
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
        Setup(
            captions=_captions(download),
            captioned_images=None,
            captions_per_image="all" if subset.captions_per_image is None else subset.captions_per_image,
            backbone=backbone.name,
            objective=objective.name,
            hidden_size=textual_head.hidden_size,
            num_layers=textual_head.num_layers,
            iterations=schedule.iterations,
            batch_size=pretrain.batch_size,
            voc07_test_images=None,
        ),
        benchmarks.backbones,
    )
    write_text(run.output_dir / "report.md", markdown(data))
    write_json(run.output_dir / "report.json", report_json(data))
    draw_report(run.output_dir / "report.png", data)
    for name in ("report.md", "report.json", "report.png"):
        run.artifact(run.output_dir / name)
    run.metrics(headline_figures(data))
    print(f"report: {run.output_dir / 'report.md'}", flush=True)


def _captions(download: params.Download) -> str:
    """Datasets that were pretrained on; ``coco`` alone is taken for COCO Captions."""
    if download.source == "drawn_world":
        return "drawn world"
    names = list(download.folders.captions)
    return "COCO Captions" if names == ["coco"] else " + ".join(names)


if __name__ == "__main__":
    run_stage("report", SECTIONS, main)
