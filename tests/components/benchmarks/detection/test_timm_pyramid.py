"""Detectors around networks of timm."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from components import params
from components.benchmarks.detection.data import (
    COCO_SEGMENTATION,
    VOC_DETECTION,
    BackboneWeights,
    DetectionSplit,
    DetectionTask,
)
from components.benchmarks.detection.torchvision_engine import fit_and_detect
from components.benchmarks.detection.torchvision_models import TimmFpn
from components.core.errors import InputError
from components.models.backbones import build_backbone
from components.training.distributed import SINGLE_PROCESS

Settings = Callable[..., params.Detection]


def weights(name: str) -> BackboneWeights:
    torch.manual_seed(0)
    return BackboneWeights(name, build_backbone(name).cnn.state_dict())


def test_maps_of_all_strides_from_the_weights_given(settings: Settings) -> None:
    given = weights("timm/test_convnext")
    fpn = TimmFpn(given.architecture, given.tensors, 8, settings(COCO_SEGMENTATION)).eval()
    maps = fpn(torch.randn(1, 3, 64, 96))
    assert {name: tuple(value.shape) for name, value in maps.items()} == {
        "0": (1, 8, 16, 24), "1": (1, 8, 8, 12), "2": (1, 8, 4, 6), "3": (1, 8, 2, 3), "pool": (1, 8, 1, 2),
    }  # fmt: skip
    held = fpn.body.state_dict()
    assert all(torch.equal(held[name], value) for name, value in given.tensors.items())
    with pytest.raises(InputError, match="test_vit' has no feature maps"):
        TimmFpn("timm/test_vit", {}, 8, settings(COCO_SEGMENTATION))


@pytest.mark.parametrize("freeze_at", [0, 5])
def test_a_frozen_network_keeps_its_activations(settings: Settings, freeze_at: int) -> None:
    """Those that timm's normalisation applies itself."""
    given = weights("timm/test_resnet")
    changed = settings(COCO_SEGMENTATION, freeze_at=freeze_at)
    fpn = TimmFpn(given.architecture, given.tensors, 8, changed).train()
    assert {value.requires_grad for value in fpn.body.parameters()} == {freeze_at == 0}
    plain = build_backbone(given.architecture).eval()
    plain.cnn.load_state_dict(given.tensors)
    images = torch.randn(2, 3, 64, 64)
    last = fpn.body.forward_intermediates(images, indices=[4], intermediates_only=True)[0]
    assert torch.allclose(last, plain(images), atol=1e-5) == (freeze_at == 5)


@pytest.mark.parametrize("task", [COCO_SEGMENTATION, VOC_DETECTION], ids=lambda task: task.name)
def test_detectors_are_trained_and_detect(
    task: DetectionTask, squares: DetectionSplit, settings: Settings, tmp_path: Path
) -> None:
    found, rows = fit_and_detect(
        task,
        squares,
        squares.images[:2],
        weights("timm/test_convnext"),
        settings(task, iterations=1),
        scratch_dir=tmp_path,
        device=torch.device("cpu"),
        num_workers=0,
        processes=SINGLE_PROCESS,
        log=lambda *_: None,
    )
    assert len(found) == 2
    assert [row["iteration"] for row in rows] == [1]
    assert rows[0]["loss"] > 0
