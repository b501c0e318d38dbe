"""Stage ``select``: the best of the models that pretraining kept, and its backbone, for later stages."""

from components import params
from components.benchmarks.voc07.checkpoint_choice import (
    choose,
    criterion,
    draw,
    export,
    measure,
    read_candidates,
    write_table,
)
from components.benchmarks.voc07.protocol import Voc07Benchmark
from components.benchmarks.voc07.results import write_measured
from components.core import paths
from components.entry import run_stage
from components.models.backbones import example_images
from components.objectives.saved import copy_captioner
from components.tracking import StageRun

SECTIONS = (params.Select, params.Voc07, params.Caption)


def main(run: StageRun, select: params.Select, voc07: params.Voc07, caption: params.Caption) -> None:
    """Measure the candidates if the choice goes by that; copy the best one and write its backbone."""
    candidates = read_candidates(paths.CANDIDATES_DIR, paths.stage_dir("pretrain") / "val.csv")
    benchmark = Voc07Benchmark(voc07) if select.by == "voc07" else None
    if benchmark:
        candidates = [measure(candidate, benchmark) for candidate in candidates]
    chosen = choose(candidates, select)
    copy_captioner(chosen.path, paths.CAPTIONER, caption.image_size, caption.antialias)
    backbone_path = paths.backbone_path(params.PRETRAINED)
    backbone, metadata = export(chosen.path, backbone_path)
    write_measured(paths.CHOSEN_VOC07, chosen.measured, benchmark.key(backbone) if benchmark else "")
    for candidate in candidates:
        run.model_elsewhere(candidate.path.stem, candidate.path, candidate.figures(), candidate.iteration)
    run.model("backbone", backbone, example_images(), backbone_path)
    write_table(run.output_dir / "checkpoints.csv", candidates, select)
    draw(run.output_dir / "checkpoints.png", candidates, select)
    for path in (backbone_path, run.output_dir / "checkpoints.csv", run.output_dir / "checkpoints.png"):
        run.artifact(path)
    run.metrics(
        {
            "iteration": chosen.iteration,
            "criterion": criterion(select),
            "num_candidates": len(candidates),
            "feature_size": int(metadata["feature_size"]),
            "num_parameters": sum(parameter.numel() for parameter in backbone.parameters()),
            "file_bytes": backbone_path.stat().st_size,
            **chosen.figures(),
        }
    )
    print(f"Checkpoint chosen by {criterion(select)}: iteration {chosen.iteration}", flush=True)


if __name__ == "__main__":
    run_stage("select", SECTIONS, main)
