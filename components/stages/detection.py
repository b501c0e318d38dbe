"""Stage ``detection``: which backbones the three detection benchmarks are to measure, maybe none."""

from components import params
from components.core import paths
from components.core.files import write_json
from components.core.published import DETECTION_STAGES
from components.entry import run_stage
from components.tracking import StageRun

SECTIONS = (params.Benchmarks,)


def main(run: StageRun, benchmarks: params.Benchmarks) -> None:
    """Write it into the folder of each benchmark's results, which is then there without any result."""
    for stage in DETECTION_STAGES:
        write_json(paths.stage_dir(stage) / "backbones.json", benchmarks.detection_backbones)
    run.metrics({"backbones": len(benchmarks.detection_backbones)})


if __name__ == "__main__":
    run_stage("detection", SECTIONS, main)
