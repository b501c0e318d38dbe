"""One image with its captions and labels, as every source of captioned images hands them on."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class CaptionedImage:
    """An image file and what people wrote about it.

    Attributes:
        image_id: unique over all datasets of a run: ``<dataset>/<the dataset's own id>``.
        dataset: the name the dataset has in params.yaml, such as ``coco``.
        path: the encoded image on disk.
        captions: at least one, as written (not normalised).
        labels: of the objects it shows, from 1, rising; see components.sources.object_labels.
    """

    image_id: str
    dataset: str
    path: Path
    captions: tuple[str, ...]
    labels: tuple[int, ...] = ()
