"""Pictures of the page: captions beside what they describe, and detections."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components.core import paths
from components.core.errors import InputError
from components.data.image import DecodeError, decode
from components.data.store import CaptionStore
from components.params import PRETRAINED
from components.report.captions_page import choose_examples
from components.report.files import read_json
from components.report.html import data_uri

NUM_CAPTIONS = 12
CAPTION_PIXELS, DETECTION_PIXELS = 320, 1280  # longer sides
DETECTIONS = {
    "coco_segmentation": "COCO detection and segmentation",
    "lvis_segmentation": "LVIS segmentation",
    "voc_detection": "VOC detection",
}


@dataclass(frozen=True, slots=True)
class Gallery:
    """What is shown.

    Attributes:
        captions: entries of captions.json, best, typical and worst in turn, each with its ``group``.
        pictures: data URIs of their images, by image id; without those that cannot be had.
        detections: data URIs of detections drawn on test images, by title.
        broken: what is there and cannot be read, for people.
    """

    captions: list[dict[str, Any]]
    pictures: dict[str, str]
    detections: dict[str, str]
    broken: list[str]


def gather_gallery(captioning: Mapping[str, Any]) -> Gallery:
    """Choose and load what is shown; ``captioning`` is metrics.json of the caption stage."""
    notes: list[str] = []
    captions = _chosen(read_json(paths.stage_dir("caption") / "captions.json", notes), notes)
    wanted = {str(caption["image_id"]) for caption in captions}
    pictures = _pictures(wanted, captioning.get("dataset"), notes) if wanted else {}
    detections = {
        title: uri for stage, title in DETECTIONS.items() if (uri := _detections(stage, notes)) is not None
    }
    return Gallery(
        captions, pictures, detections, [note for note in notes if not note.endswith(" is missing")]
    )


def _chosen(entries: Any, notes: list[str]) -> list[dict[str, Any]]:
    if not entries:
        return []
    try:
        ranking = choose_examples([float(entry["cider"]) for entry in entries], NUM_CAPTIONS)
        groups = {"best": ranking.best, "typical": ranking.typical, "worst": ranking.worst}
        return [
            {
                "group": group,
                "image_id": str(entries[index]["image_id"]),
                "caption": str(entries[index]["caption"]),
                "cider": float(entries[index]["cider"]),
                "log_probability": float(entries[index]["log_probability"]),
                "references": [str(text) for text in entries[index]["references"]],
            }
            for group, indices in groups.items()
            for index in indices
        ]
    except (KeyError, TypeError, ValueError) as error:
        path = paths.stage_dir("caption") / "captions.json"
        notes.append(f"{path} cannot be read: {type(error).__name__} {error}")
        return []


def _pictures(wanted: set[str], dataset: str | None, notes: list[str]) -> dict[str, str]:
    path = paths.lmdb_path("val")
    found: dict[str, str] = {}
    try:
        for record in CaptionStore(path) if path.exists() else ():
            if record.image_id in wanted and dataset in (record.dataset, None):
                found[record.image_id] = data_uri(decode(record.image), CAPTION_PIXELS)
            if len(found) == len(wanted):
                break
    except (InputError, DecodeError) as error:
        notes.append(f"{path} cannot be read: {error}")
    return found


def _detections(stage: str, notes: list[str]) -> str | None:
    path = paths.stage_dir(stage, PRETRAINED) / "detections.png"
    try:
        return data_uri(decode(path.read_bytes()), DETECTION_PIXELS)
    except FileNotFoundError:
        return None
    except (OSError, DecodeError) as error:
        notes.append(f"{path} cannot be read: {error}")
        return None
