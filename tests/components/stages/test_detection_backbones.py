"""The stage ``detection``, which keeps the folders of the detection benchmarks there."""

import json
from pathlib import Path

import pytest

from components import params
from components.core import paths
from components.core.published import DETECTION_STAGES
from components.stages import detection as stage
from components.tracking import StageRun


@pytest.mark.parametrize("backbones", [[], ["virtex", "random"]])
def test_each_benchmark_has_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backbones: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run = StageRun("detection", None, tmp_path, None)
    stage.main(run, params.Benchmarks(backbones=["virtex"], detection_backbones=backbones))
    for name in DETECTION_STAGES:
        assert json.loads((paths.stage_dir(name) / "backbones.json").read_text()) == backbones
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"backbones": len(backbones)}
