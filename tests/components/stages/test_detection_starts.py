"""Every backbone a detector can start from, from its file to the tensors of the detector."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from components import params
from components.benchmarks.detection import benchmark, data
from components.benchmarks.detection.data import BackboneWeights, DetectionSplit
from components.benchmarks.detection.detectron2_engine import load_backbone as place_backbone
from components.benchmarks.detection.torchvision_models import faster_rcnn_c4, mask_rcnn_fpn
from components.core import paths
from components.core.errors import InputError
from components.export.zoo.resnets import make_baseline
from components.models.backbones import export_backbone
from components.params import Section, read_section
from components.sources.manifest import DatasetEntry, Manifest, write_parts
from components.stages import baseline, detection
from components.tracking import StageRun

REPOSITORY = Path(__file__).resolve().parents[3]
RESNET18 = params.Backbone(name="resnet18", zero_init_residual=False)
SEED = 7
STARTS = ("virtex", "authors", "supervised", "moco", "imagenet", "random")


def shipped(section: type[Section]) -> Any:
    return read_section(section, REPOSITORY / "params.yaml")


def thawed(section: type[Section]) -> Any:
    return shipped(section).model_copy(update={"freeze_at": 0})


def state_of(start: str) -> dict[str, Tensor]:
    """A whole ResNet-18 with weights of its own."""
    torch.manual_seed(STARTS.index(start) + 1)
    return torchvision.models.resnet18().state_dict()


def prepare(start: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Leave the backbone's file as the stages before would; returns what must be in it."""
    state = state_of(start)
    source = str(folder / f"{start}.pth")
    if start == "virtex":
        cnn = torchvision.models.resnet18()
        cnn.load_state_dict(state)
        export_backbone(cnn, paths.backbone_path(start), "resnet18", start)
        return state
    if start == "authors":
        model = {f"visual.cnn.{name}": tensor for name, tensor in state.items()}
        torch.save({"model": {**model, "textual.output.bias": torch.zeros(4)}, "iteration": 500_000}, source)
    elif start == "supervised":
        torch.save(state, source)
    elif start == "moco":
        key = {f"module.encoder_k.{name}": torch.zeros_like(tensor) for name, tensor in state.items()}
        query = {f"module.encoder_q.{name}": tensor for name, tensor in state.items()}
        torch.save({"state_dict": {**key, **query}, "arch": "resnet18"}, source)
    elif start == "imagenet":
        monkeypatch.setenv("TORCH_HOME", str(folder))
        source = start
        hub = folder / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
        hub.parent.mkdir(parents=True)
        torch.save(state, hub)
    else:
        source = start
        state = make_baseline("random", SEED, RESNET18).cnn.state_dict()
    section = params.Baseline(seed=SEED, sources={start: source})
    baseline.main(stage_run("baseline", start), section, RESNET18)
    return state


def stage_run(stage: str, item: str) -> StageRun:
    output_dir = paths.stage_dir(stage, item)
    output_dir.mkdir(parents=True, exist_ok=True)
    return StageRun(stage, item, output_dir, None)


@pytest.mark.parametrize("start", STARTS)
def test_the_stage_starts_from_it(start: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = prepare(start, folder, monkeypatch)
    entry = DatasetEntry(root=str(folder), annotations={}, images={}, listings={})
    write_parts(paths.DATASETS_DIR, Manifest(source="folders", captions={}, benchmarks={"voc2007": entry}))
    given: list[BackboneWeights] = []

    def take(
        task: object, train: object, test: object, backbone: BackboneWeights, *_: Any, **__: Any
    ) -> None:
        given.append(backbone)

    monkeypatch.setattr(benchmark, "run_benchmark", take)
    monkeypatch.setattr(data, "read_voc", lambda *_: DetectionSplit((), ("a", "b"), (1, 2)))
    section = shipped(params.VocDetection)
    detection.main(stage_run("detection", f"voc_detection-{start}"), section)
    (backbone,) = given
    assert backbone.architecture == "resnet18"
    trunk = {name: tensor for name, tensor in expected.items() if not name.startswith("fc.")}
    assert backbone.tensors.keys() == trunk.keys()
    for detector in (
        mask_rcnn_fpn("resnet18", backbone.tensors, 2, thawed(params.CocoSegmentation)),
        faster_rcnn_c4("resnet18", backbone.tensors, 2, thawed(params.VocDetection)),
    ):  # frozen batch normalisation has no counts
        assert missing_in(detector, trunk) == []


def missing_in(detector: nn.Module, trunk: dict[str, Tensor]) -> list[str]:
    """Tensors that stand nowhere in the detector under a name that ends as theirs."""
    held = detector.state_dict()
    places = {name: (name, name.replace("layer4.", "res5.", 1)) for name in trunk}
    return [
        name
        for name, tensor in trunk.items()
        if not any(key.endswith(places[name]) and torch.equal(held[key], tensor) for key in held)
    ]


def test_a_file_of_which_nothing_loads_is_an_error(folder: Path) -> None:
    torch.save({"state_dict": {"head.weight": torch.zeros(3)}}, folder / "other.pth")
    section = params.Baseline(seed=0, sources={"other": str(folder / "other.pth")})
    with pytest.raises(InputError, match="no ResNet in it"):
        baseline.main(stage_run("baseline", "other"), section, RESNET18)
    assert not paths.backbone_path("other").exists()


def test_a_detector_that_takes_nothing_is_an_error() -> None:
    with pytest.raises(RuntimeError, match=r"stem\.conv1\.weight .* has no place in the detector"):
        place_backbone(nn.Linear(2, 2), state_of("virtex"))
    with pytest.raises(RuntimeError, match="Missing key"):
        faster_rcnn_c4("resnet18", {}, 2, shipped(params.VocDetection))
