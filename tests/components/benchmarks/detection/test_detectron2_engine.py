"""The detectron2 engine; what needs detectron2 itself is skipped where it is not installed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from pycocotools import mask as run_lengths
from torch import nn

from components import params
from components.benchmarks.detection.data import (
    COCO_SEGMENTATION,
    VOC_DETECTION,
    BackboneWeights,
    DetectionImage,
    DetectionObject,
    DetectionSplit,
    DetectionTask,
)
from components.benchmarks.detection.detectron2_engine import (
    fit_and_detect,
    load_backbone,
    loss_parts,
    mask_format,
    record,
)
from components.training.distributed import SINGLE_PROCESS


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


def test_masks_are_polygons_unless_there_are_run_lengths(squares: DetectionSplit) -> None:
    first = squares.images[0]
    runs = {"counts": [0, 4, first.width * first.height - 4], "size": [first.height, first.width]}
    crowd = replace(first, objects=(*first.objects, DetectionObject(0, (0, 0, 9, 9), runs, is_crowd=True)))
    solid = replace(first, objects=(*first.objects, DetectionObject(0, (0, 0, 9, 9), runs)))
    assert mask_format(squares.images) == "polygon"
    assert mask_format([crowd, *squares.images]) == "polygon"  # crowds are not trained on
    assert mask_format([*squares.images, solid]) == "bitmask"
    polygons, compressed = (item["segmentation"] for item in record(solid, True, None)["annotations"])
    assert polygons == first.objects[0].segmentation
    assert run_lengths.area(compressed) == 4


def test_whole_numbers_become_floats() -> None:
    """numpy would keep resized whole numbers whole, and cut their fractions off."""
    thing = DetectionObject(1, (1, 2, 8, 9), [[1, 2, 8, 2, 8, 9]])
    (given,) = record(DetectionImage(7, Path("a.jpg"), 20, 10, (thing,)), True, None)["annotations"]
    assert np.array(given["bbox"]).dtype == np.array(given["segmentation"]).dtype == np.float64
    assert (
        "segmentation"
        not in record(DetectionImage(7, Path("a.jpg"), 20, 10, (thing,)), False, None)["annotations"][0]
    )


def test_the_parts_of_a_loss_are_found_among_what_detectron2_stores() -> None:
    stored = {"loss_cls": (2.0, 5), "loss_mask": (1.0, 5), "total_loss": (3.0, 5), "data_time": (9.0, 5),
              "roi_head/loss": (7.0, 5)}  # fmt: skip
    assert loss_parts(stored) == {"loss_cls": torch.tensor(2.0), "loss_mask": torch.tensor(1.0)}
    assert loss_parts({"total_loss": (3.0, 5)}) == {"total_loss": torch.tensor(3.0)}


@pytest.mark.integration
@pytest.mark.parametrize("task", [COCO_SEGMENTATION, VOC_DETECTION], ids=lambda task: task.name)
def test_it_trains_detects_and_continues(
    task: DetectionTask, squares: DetectionSplit, settings: Callable[..., params.Detection], tmp_path: Path
) -> None:
    pytest.importorskip("detectron2", reason="detectron2 is not installed: see docs/detection.md")
    resnet = torchvision.models.resnet18()
    resnet.fc = nn.Identity()
    logged = []

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
            processes=SINGLE_PROCESS,
            log=lambda _, iteration: logged.append(iteration),
        )

    found, rows = fit(2)
    assert [row["iteration"] for row in rows] == [1, 2]
    assert [image.image_id for image in found] == [0, 1]
    assert (found[0].masks is not None) == task.with_masks
    first = list(rows)
    _, rows = fit(3)
    assert rows[:2] == first
    assert [row["iteration"] for row in rows] == [1, 2, 3]
    assert logged == [1, 2, 1, 2, 3]
    _, again = fit(3)  # as after a run that was killed when it had trained
    assert again == rows
