"""Steps of torchvision's detectors on a GPU that is not there (tests/fake_tensors.py)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from fake_tensors import GPU, Scaled, fake_gpu, faked
from torch import Tensor

from components import params
from components.benchmarks.detection.samples import Draws, draw_by_image
from components.benchmarks.detection.torchvision_engine import DetectorObjective, _decayed_and_not
from components.benchmarks.detection.torchvision_models import faster_rcnn_c4, mask_rcnn_fpn
from components.training.distributed import SINGLE_PROCESS
from components.training.loop import LoopOptions, training_step
from components.training.optimizer import multiplier
from components.training.state import TrainingState
from components.training.validation import to_device

SMALL = {"train_sizes": [64], "test_size": 64, "max_size": 64, "train_proposals": 20, "rois_per_image": 8}


@pytest.fixture(params=[params.CocoSegmentation, params.VocDetection])
def objective(request: pytest.FixtureRequest) -> DetectorObjective:
    section = request.param
    shipped = params.read_section(section, Path(params.__file__).parents[2] / "params.yaml")
    settings = section.model_validate({**shipped.model_dump(), **SMALL})
    weights = torchvision.models.resnet18(weights=None).state_dict()
    backbone = {name: value for name, value in weights.items() if not name.startswith("fc.")}
    build = faster_rcnn_c4 if section is params.VocDetection else mask_rcnn_fpn
    detector = build("resnet18", backbone, 3, settings)
    return DetectorObjective(detector, draw_by_image(detector, 0), SINGLE_PROCESS).train()


def step(objective: DetectorObjective, monkeypatch: pytest.MonkeyPatch) -> None:
    """One as the loop takes it, forward and backward."""

    def begin(draws: Draws, visits: list[int], _: torch.device) -> None:
        draws.generators = [torch.Generator() for _ in visits]  # a GPU's needs a driver

    monkeypatch.setattr(Draws, "begin", begin)
    target = {
        "boxes": torch.zeros(2, 4), "labels": torch.zeros(2, dtype=torch.int64),
        "masks": torch.zeros(2, 60, 70, dtype=torch.uint8),
    }  # fmt: skip
    images, visit = [torch.zeros(3, 60, 70)] * 2, torch.zeros(2, dtype=torch.int64)
    batch: dict[str, Any] = {"image": images, "target": [target] * 2, "visit": visit}
    with fake_gpu(objective):
        anchors = objective.visual.rpn.anchor_generator
        anchors.cell_anchors = faked(anchors.cell_anchors)  # on the host, until they are first used
        optimizer = torch.optim.SGD(_decayed_and_not(objective, 0.1), lr=0.1, momentum=0.9)
        state = TrainingState(objective, optimizer, multiplier("none", 10, warmup_iterations=1), "fp32", GPU)
        options = LoopOptions(10, 10, 10, 10, "detection", "", channels_last=False)
        training_step(state, objective, [to_device(faked(batch), GPU, torch.contiguous_format)], options)
        trained = [weight for weight in objective.parameters() if weight.requires_grad]
        assert {weight.grad.device for weight in trained} == {GPU}
        assert {optimizer.state[weight]["momentum_buffer"].device for weight in trained} == {GPU}


def test_a_step_stays_on_the_gpu(objective: DetectorObjective, monkeypatch: pytest.MonkeyPatch) -> None:
    step(objective, monkeypatch)


@pytest.mark.parametrize("planted", [lambda given: given * torch.full((1,), 2.0), Scaled.apply])
@pytest.mark.parametrize("part", ["rpn.head.conv", "roi_heads.box_head"])
@pytest.mark.parametrize("objective", [params.CocoSegmentation], indirect=True)
def test_a_tensor_on_the_cpu_is_found_forward_and_backward(
    part: str,
    planted: Callable[[Tensor], Tensor],
    objective: DetectorObjective,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layer = objective.visual.get_submodule(part)
    layer.register_forward_hook(lambda _, __, given: planted(given))
    with pytest.raises(RuntimeError, match="two devices, cuda:0 and cpu"):
        step(objective, monkeypatch)
