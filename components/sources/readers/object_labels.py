"""Which object categories an image shows, from the ``instances`` files beside the captions.

Labels are 1 to K without gaps, as multilabel classification needs them (0 is the background): the
categories of the first dataset by ascending id, then those of the next that have new names. COCO's 80
categories thus get 1 to 80. Categories of one name are one, whatever their ids. Crowd regions count:
they show their category too.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from components.core.errors import InputError
from components.sources.layout import is_known, read_annotations, shown, unique_ids
from components.sources.readers.coco import annotation_path
from components.sources.readers.types import CaptionedImage


@dataclass(frozen=True, slots=True)
class ObjectLabels:
    """Labels of the images of a split.

    Attributes:
        categories: their names; label k is ``categories[k - 1]``. Empty where nothing is labelled.
        of_image: by ``image_id`` of a CaptionedImage, rising, each once; images without objects lack.
    """

    categories: tuple[str, ...]
    of_image: Mapping[str, tuple[int, ...]]

    def added_to(self, images: Iterable[CaptionedImage]) -> list[CaptionedImage]:
        """The same images with their labels."""
        return [replace(image, labels=self.of_image.get(image.image_id, ())) for image in images]


def read_object_labels(roots: Mapping[str, Path], split: str) -> ObjectLabels:
    """Labels of the datasets that lie in ``roots``, by name, each with an ``instances`` file.

    Raises:
        InputError: a file is missing or broken, or an object names an unknown category.
    """
    numbers: dict[str, int] = {}
    found: dict[str, set[int]] = defaultdict(set)
    for dataset, root in roots.items():
        path = annotation_path(root, "instances", split)
        parsed = read_annotations(path, ("annotations", "categories"))
        categories = unique_ids(path, parsed["categories"], "categories")
        labels = {
            key: numbers.setdefault(str(categories[key].get("name", key)), len(numbers) + 1)
            for key in sorted(categories)
        }
        for annotation in parsed["annotations"]:
            key = annotation.get("category_id")
            if not is_known(key, categories):
                raise InputError(
                    f"{path}: an object of a category that `categories` lacks: {shown(annotation)}"
                )
            found[f"{dataset}/{annotation.get('image_id')}"].add(labels[key])
    return ObjectLabels(tuple(numbers), {image_id: tuple(sorted(of)) for image_id, of in found.items()})
