"""Images with one class each, as ImageNet and iNaturalist hand them on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ClassifiedImages:
    """One split of a single-label dataset.

    Attributes:
        image_paths: in a fixed order.
        classes: names, by class index.
        labels: int64 ``(num_images,)``, indices into ``classes``.
        upright: whether pictures are turned as their EXIF orientation says (components.data.image).
    """

    image_paths: list[Path]
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    upright: bool = True
