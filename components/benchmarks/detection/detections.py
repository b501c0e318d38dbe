"""What a detector says about one image, the same from both engines."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


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


def as_coco_results(found: Detections, category_ids: tuple[int, ...]) -> list[dict[str, Any]]:
    """The records of COCO's results format."""
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
    """Without loss; the inverse of `from_json`."""
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
    """What `to_json` was given."""
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
