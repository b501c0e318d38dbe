"""Stage 4, ``pretrain``: learn a backbone and a head from captioned or labelled images."""

import hashlib
from pathlib import Path
from typing import Any

from components import params
from components.core import machine, paths
from components.entry import run_stage
from components.models.backbones import require_detectable
from components.pretraining.run import Sections, pretrain_model
from components.tracking import StageRun
from components.training.checkpoints import Measure

SECTIONS = tuple(Sections.__annotations__.values())


def main(run: StageRun, *values: Any) -> None:
    """Train from the newest checkpoint of this configuration, if there is one; write the candidates."""
    # What a later stage would refuse after the whole training; changes no output.
    if params.detects_with_backbone(given := params.check_params()):
        require_detectable(params.section_of(given, params.Backbone).name)
    sections = Sections(*values)
    pretrain_model(run, sections, _measure() if sections.pretrain.measure_candidates else None)


def _measure() -> Measure | None:
    """Return the measure of `select`, which only says what is worth keeping for `select` to measure again."""
    if params.read_section(params.Select).by != "voc07":
        return None
    # Here: their libraries are not for every run.
    from components.benchmarks.voc07.checkpoint_choice import measure_file
    from components.benchmarks.voc07.protocol import Voc07Benchmark

    voc07 = params.read_section(params.Voc07)
    benchmark = Voc07Benchmark(voc07) if machine.is_first_process() else None
    data = paths.dataset_part("voc07").read_bytes()
    key = hashlib.sha256(data + voc07.model_dump_json().encode()).hexdigest()

    def figures(path: Path) -> dict[str, float]:
        assert benchmark is not None
        _, test_map, trainval_map = measure_file(path, benchmark)
        return {"voc07_mAP": test_map, "voc07_trainval_mAP": trainval_map}

    return Measure(key, figures)


if __name__ == "__main__":
    run_stage("pretrain", SECTIONS, main, in_several_processes=True)
