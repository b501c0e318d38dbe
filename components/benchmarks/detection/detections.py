"""What a detector finds in images, the same from both engines: kept, sent between processes, drawn."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from pycocotools import mask as run_lengths
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from components.benchmarks.detection.data import DetectionImage
from components.benchmarks.detection.samples import TestImages, read_pixels
from components.core.files import writing

MASK_THRESHOLD = 0.5
COLUMNS = 4
PICTURE_INCHES = 3.2
SHOWN_SCORE = 0.5  # weaker detections are not drawn, unless nothing else was found
SHOWN_OBJECTS = 8  # per image
MASK_OPACITY = 0.45


@dataclass(frozen=True, slots=True)
class Detections:
    """Objects found in one image, in any order.

    Attributes:
        image_id: the dataset's own.
        boxes: float32 ``(objects, 4)``: left, top, right, bottom in pixels of the image as stored.
        scores: float32 ``(objects,)``, 0 to 1.
        labels: int64 ``(objects,)``, from 0.
        masks: compressed run lengths of each object; None where the detector has no masks.
    """

    image_id: int | str
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    masks: list[dict[str, Any]] | None = None


@torch.inference_mode()
def detect(
    model: nn.Module,
    images: Sequence[DetectionImage],
    *,
    batch_size: int,
    device: torch.device,
    num_workers: int,
    progress: bool = False,
) -> list[Detections]:
    """Return a torchvision detector's findings in every image, in order; leave the model in eval mode."""
    model.to(device).eval()
    loader: DataLoader[Any] = DataLoader(
        TestImages(images),
        batch_size=batch_size,
        collate_fn=list,
        num_workers=num_workers,
        generator=torch.Generator().manual_seed(0),
    )
    found = []
    for batch in tqdm(loader, "detect", unit=" batches", mininterval=10.0, disable=not progress):
        outputs = model([image.to(device) for image, _ in batch])
        for output, (_, index) in zip(outputs, batch, strict=True):
            found.append(_from_torchvision(images[index], output))
    return found


def _from_torchvision(image: DetectionImage, output: dict[str, Tensor]) -> Detections:
    """Turn labels from 1 into labels from 0, soft masks ``(objects, 1, height, width)`` into run lengths."""
    return Detections(
        image.image_id,
        output["boxes"].cpu().numpy().astype(np.float32),
        output["scores"].cpu().numpy().astype(np.float32),
        output["labels"].cpu().numpy().astype(np.int64) - 1,
        encode_masks(output["masks"][:, 0] > MASK_THRESHOLD) if "masks" in output else None,
    )


def encode_masks(masks: Tensor) -> list[dict[str, Any]]:
    """Return bool masks ``(objects, height, width)`` as compressed run lengths."""
    pixels = masks.cpu().numpy().astype(np.uint8)
    return run_lengths.encode(np.asfortranarray(pixels.transpose(1, 2, 0))) if len(pixels) else []


def as_coco_results(found: Detections, category_ids: tuple[int, ...]) -> list[dict[str, Any]]:
    """Return the records of COCO's results format."""
    records: list[dict[str, Any]] = []
    for index, (left, top, right, bottom) in enumerate(found.boxes.tolist()):
        record: dict[str, Any] = {
            "image_id": found.image_id,
            "category_id": category_ids[int(found.labels[index])],
            "bbox": [left, top, right - left, bottom - top],
            "score": float(found.scores[index]),
        }
        if found.masks is not None:
            record["segmentation"] = found.masks[index]
        records.append(record)
    return records


def to_json(found: Sequence[Detections]) -> str:
    """Return them as text, without loss; the inverse of `from_json`."""
    return json.dumps(
        [
            {
                "image_id": image.image_id,
                "boxes": image.boxes.tolist(),
                "scores": image.scores.tolist(),
                "labels": image.labels.tolist(),
                "masks": None if image.masks is None else [_as_text(mask) for mask in image.masks],
            }
            for image in found
        ]
    )


def from_json(text: str) -> list[Detections]:
    """Return the detections that `to_json` was given."""
    return [
        Detections(
            record["image_id"],
            np.array(record["boxes"], np.float32).reshape(-1, 4),
            np.array(record["scores"], np.float32),
            np.array(record["labels"], np.int64),
            record["masks"],
        )
        for record in json.loads(text)
    ]


def _as_text(mask: dict[str, Any]) -> dict[str, Any]:
    counts = mask["counts"]
    return {"size": list(mask["size"]), "counts": counts.decode() if isinstance(counts, bytes) else counts}


def draw_detections(
    path: Path,
    images: Sequence[DetectionImage],
    found: Sequence[Detections],
    classes: Sequence[str],
    title: str,
) -> None:
    """Write a PNG of images with what was found in them: box, mask, class and score."""
    rows = max(1, -(-len(images) // COLUMNS))
    figure = Figure(
        figsize=(COLUMNS * PICTURE_INCHES, rows * PICTURE_INCHES + 0.5), layout="constrained", dpi=100
    )
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    for position in range(rows * COLUMNS):
        axes = figure.add_subplot(rows, COLUMNS, position + 1)
        axes.set_axis_off()
        if position < len(images):
            _draw(axes, images[position], found[position], classes)
    with writing(path) as temporary:
        figure.savefig(temporary, format="png")


def _draw(axes: Axes, image: DetectionImage, found: Detections, classes: Sequence[str]) -> None:
    axes.imshow(read_pixels(image))
    order = np.argsort(-found.scores)
    strong = [index for index in order if found.scores[index] >= SHOWN_SCORE]
    for index in (strong or list(order[:1]))[:SHOWN_OBJECTS]:
        color = f"C{int(found.labels[index]) % 10}"
        left, top, right, bottom = found.boxes[index]
        axes.add_patch(
            Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=color, linewidth=1.5)
        )
        if found.masks is not None:
            mask = run_lengths.decode(found.masks[index])
            axes.contourf(mask, levels=[0.5, 1.5], colors=[color], alpha=MASK_OPACITY)
        axes.text(
            left,
            top,
            f"{classes[int(found.labels[index])]} {found.scores[index]:.2f}",
            fontsize=7,
            color="white",
            verticalalignment="bottom",
            bbox={"facecolor": color, "edgecolor": "none", "pad": 1.0},
            clip_on=True,
        )
