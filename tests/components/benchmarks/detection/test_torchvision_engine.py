"""Fine-tuning torchvision's detectors: they learn, stop and continue, and start from the given backbone."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from components import params
from components.benchmarks.detection.benchmark import chosen_images, run_benchmark, write_files
from components.benchmarks.detection.data import (
    COCO_SEGMENTATION,
    VOC_DETECTION,
    BackboneWeights,
    DetectionSplit,
    DetectionTask,
)
from components.benchmarks.detection.samples import TrainSamples
from components.benchmarks.detection.torchvision_engine import _decayed_and_not, fit_and_detect
from components.benchmarks.detection.torchvision_models import faster_rcnn_c4, mask_rcnn_fpn
from components.core.errors import InputError
from components.training.distributed import SINGLE_PROCESS

TASKS = (COCO_SEGMENTATION, VOC_DETECTION)
Settings = Callable[..., params.Detection]


@pytest.fixture(scope="session")
def backbone() -> BackboneWeights:
    torch.manual_seed(0)
    resnet = torchvision.models.resnet18()
    resnet.fc = torch.nn.Identity()
    return BackboneWeights("resnet18", resnet.state_dict())


def fit(
    task: DetectionTask,
    split: DetectionSplit,
    backbone: BackboneWeights,
    folder: Path,
    settings: params.Detection,
) -> Any:
    return fit_and_detect(
        task,
        split,
        split.images[:2],
        backbone,
        settings,
        scratch_dir=folder,
        device=torch.device("cpu"),
        num_workers=0,
        processes=SINGLE_PROCESS,
        log=lambda *_: None,
    )


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_detectors_hold_the_backbone_they_are_given(
    task: DetectionTask, backbone: BackboneWeights, settings: Settings
) -> None:
    build = mask_rcnn_fpn if task.with_masks else faster_rcnn_c4
    state = build(backbone.architecture, backbone.tensors, 2, settings(task)).state_dict()
    for name in ("conv1.weight", "layer2.0.bn1.weight", "layer4.1.conv2.weight"):
        held = [tensor for key, tensor in state.items() if key.endswith(name.replace("layer4.", "", 1))]
        assert any(
            torch.equal(tensor, backbone.tensors[name])
            for tensor in held
            if tensor.shape == backbone.tensors[name].shape
        )


@pytest.mark.parametrize("freeze_at", [0, 3, 5])
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_what_is_frozen_stays_as_it_was_pretrained_and_the_rest_is_trained(
    task: DetectionTask,
    freeze_at: int,
    squares: DetectionSplit,
    backbone: BackboneWeights,
    settings: Settings,
) -> None:
    build = mask_rcnn_fpn if task.with_masks else faster_rcnn_c4
    model = build(backbone.architecture, backbone.tensors, 2, settings(task, freeze_at=freeze_at)).train()
    image, target = TrainSamples(squares.images, task.with_masks)[0, False]
    losses = model([image] * 2, [target] * 2)
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    torch.optim.SGD([one for one in model.parameters() if one.requires_grad], lr=0.1).step()
    trained = {key.partition(".body.")[2]: tensor for key, tensor in model.state_dict().items()}
    head = "roi_heads.box_head.res5."
    trained |= {key.replace(head, "layer4."): value for key, value in model.state_dict().items()}
    order = ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")
    frozen = order[: freeze_at + 1 if freeze_at else 0]
    for name in ("conv1.weight", "bn1.running_mean", *(f"layer{n}.0.bn1.running_var" for n in (1, 2, 3, 4))):
        is_kept = torch.equal(trained[name], backbone.tensors[name])
        assert is_kept == (name.split(".")[0] in frozen), name


def test_frozen_normalisation_has_nothing_to_train(backbone: BackboneWeights, settings: Settings) -> None:
    trained, frozen = (
        mask_rcnn_fpn(backbone.architecture, backbone.tensors, 2, settings(COCO_SEGMENTATION, norm=norm))
        for norm in ("batch", "frozen")
    )
    names = {name for name, _ in frozen.named_parameters()}
    assert not any(".bn" in name for name in names)
    assert any(".bn" in name for name, _ in trained.named_parameters())


@pytest.mark.integration
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_stopped_run_continues_to_the_same_losses(
    task: DetectionTask, squares: DetectionSplit, backbone: BackboneWeights, scratch: Path,
    settings: Settings, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    _, whole = fit(task, squares, backbone, scratch.with_name("whole"), settings(task))
    original = TrainSamples.__getitem__
    seen: list[int] = []

    def stop_in_the_second(self: TrainSamples, visit: tuple[int, bool]) -> Any:
        seen.append(visit[0])
        if len(seen) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, visit)

    with monkeypatch.context() as patch:
        patch.setattr(TrainSamples, "__getitem__", stop_in_the_second)
        with pytest.raises(KeyboardInterrupt):
            fit(task, squares, backbone, scratch, settings(task))
    found, rows = fit(task, squares, backbone, scratch, settings(task))
    assert rows == whole
    assert len(found) == 2
    assert (found[0].masks is not None) == task.with_masks


def test_a_benchmark_leaves_its_files_and_no_checkpoints(
    squares: DetectionSplit, backbone: BackboneWeights, settings: Settings, tmp_path: Path
) -> None:
    measured = run_benchmark(
        COCO_SEGMENTATION,
        squares,
        squares,
        backbone,
        settings(COCO_SEGMENTATION, iterations=1),
        scratch_dir=tmp_path / "scratch",
        device=torch.device("cpu"),
        num_workers=0,
        log=lambda *_: None,
    )
    assert measured is not None
    files = write_files(measured, squares, settings(COCO_SEGMENTATION), tmp_path, "a title")
    assert all(path.stat().st_size for path in files)
    assert files[1].read_text().splitlines()[0] == "class,box,mask"
    assert not list(tmp_path.glob("scratch/*"))
    assert measured.figures()["images"] == 2
    assert measured.figures()["not_run"]["mask.APl"].startswith(
        "no objects of this kind"
    )  # squares of 24 pixels are small


def test_sets_of_different_classes_are_refused(
    squares: DetectionSplit, backbone: BackboneWeights, settings: Settings, tmp_path: Path
) -> None:
    other = replace(squares, classes=("red", "green"))
    with pytest.raises(InputError, match="different classes"):
        run_benchmark(
            COCO_SEGMENTATION, squares, other, backbone, settings(COCO_SEGMENTATION), scratch_dir=tmp_path,
            device=torch.device("cpu"), num_workers=0, log=lambda *_: None,
        )  # fmt: skip


def test_images_are_chosen_evenly(squares: DetectionSplit) -> None:
    assert [image.image_id for image in chosen_images(squares, 4)] == [0, 2, 4, 6]
    assert len(chosen_images(squares, None)) == 8


def test_normalisation_does_not_decay() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    decayed, kept = _decayed_and_not(model, 0.1)
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.1, 0.0)
    assert [len(group["params"]) for group in (decayed, kept)] == [2, 2]
    assert kept["params"][0] is model[1].weight
