"""The detectron2 engine; what needs detectron2 itself is skipped where it is not installed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from components import params
from components.benchmarks.detection.data import DetectionSplit
from components.benchmarks.detection.detectron2_engine import fit_and_detect, load_backbone
from components.benchmarks.detection.task import (
    COCO_SEGMENTATION,
    VOC_DETECTION,
    BackboneWeights,
    DetectionTask,
)
from components.training.distributed import ALONE


def place(**parameters: torch.Tensor) -> nn.Module:
    model = nn.Module()
    for name, tensor in parameters.items():
        parent = model
        *above, last = name.split("__")
        for part in above:
            if not hasattr(parent, part):
                parent.add_module(part, nn.Module())
            parent = parent.get_submodule(part)
        parent.register_buffer(last, tensor)
    return model


def test_every_tensor_finds_its_place() -> None:
    model = place(backbone__bottom_up__stem__conv1__weight=torch.zeros(2), roi_heads__res5__0=torch.zeros(3))
    load_backbone(model, {"conv1.weight": torch.ones(2), "layer4.0": torch.ones(3)})
    assert all(bool(tensor.all()) for tensor in model.state_dict().values())


def test_a_tensor_without_a_place_is_an_error() -> None:
    model = place(backbone__stem__conv1__weight=torch.zeros(2))
    with pytest.raises(RuntimeError, match=r"stem\.conv1\.weight \(3,\) has no place"):
        load_backbone(model, {"conv1.weight": torch.ones(3)})
    with pytest.raises(RuntimeError, match=r"res2\.0 \(1,\) has no place"):
        load_backbone(model, {"layer1.0": torch.ones(1)})


@pytest.mark.integration
@pytest.mark.parametrize("task", [COCO_SEGMENTATION, VOC_DETECTION], ids=lambda task: task.name)
def test_it_trains_detects_and_continues(
    task: DetectionTask, squares: DetectionSplit, settings: Callable[..., params.Detection], tmp_path: Path
) -> None:
    pytest.importorskip("detectron2", reason="detectron2 is not installed: see docs/detection.md")
    resnet = torchvision.models.resnet18()
    resnet.fc = nn.Identity()

    def fit(iterations: int) -> Any:
        return fit_and_detect(
            task,
            squares,
            squares.images[:2],
            BackboneWeights("resnet18", resnet.state_dict()),
            settings(task, engine="detectron2", iterations=iterations, checkpoint_every=2),
            scratch_dir=tmp_path / "key",
            device=torch.device("cpu"),
            num_workers=0,
            processes=ALONE,
            log=lambda *_: None,
        )

    found, rows = fit(2)
    assert [row["iteration"] for row in rows] == [1, 2]
    assert [image.image_id for image in found] == [0, 1]
    assert (found[0].masks is not None) == task.with_masks
    _, rows = fit(3)
    assert [row["iteration"] for row in rows] == [3]
