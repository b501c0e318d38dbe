import json
from pathlib import Path

import pytest
import torch

from components import params
from components.core import paths
from components.models.backbones import TorchvisionBackbone, load_backbone
from components.stages import baseline
from components.tracking import StageRun

RESNET18 = params.Backbone(name="resnet18", zero_init_residual=True)


def baseline_section(seed: int, **sources: str) -> params.Baseline:
    return params.Baseline(seed=seed, sources={"random": "random", **sources})


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StageRun:
    monkeypatch.chdir(tmp_path)
    output_dir = paths.stage_dir("baseline", "random")
    output_dir.mkdir(parents=True)
    return StageRun("baseline", "random", output_dir, None)


def test_random_is_the_seeded_network_in_the_exported_format(run: StageRun) -> None:
    baseline.main(run, baseline_section(4), RESNET18)
    backbone, metadata = load_backbone(paths.backbone_path("random"))
    torch.manual_seed(4)
    expected = TorchvisionBackbone("resnet18").cnn
    assert torch.equal(backbone.layer3[0].conv1.weight, expected.layer3[0].conv1.weight)
    assert (metadata["source"], metadata["seed"]) == ("random", "4")
    assert json.loads((run.output_dir / "metrics.json").read_text(encoding="utf-8"))["feature_size"] == 512


def test_bytes_depend_on_the_seed_alone(run: StageRun) -> None:
    contents = []
    for seed in (0, 0, 1):
        baseline.main(run, baseline_section(seed), RESNET18)
        contents.append(paths.backbone_path("random").read_bytes())
    assert contents[0] == contents[1] != contents[2]
