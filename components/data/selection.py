"""Which images and captions of a store a run sees (data efficiency: paper, section 4.1)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.core.errors import InputError
from components.data.sampling import SUBSET_CAPTIONS_STREAM, SUBSET_IMAGES_STREAM, generator
from components.data.store import CaptionStore
from components.data.targets import LABEL_TASKS
from components.params import Subset


@dataclass(frozen=True, slots=True)
class Selection:
    """A part of a store.

    Attributes:
        indices: of its records, int64, rising.
        num_captions: captions that may be seen, in all; 0 for a task that reads none.
        captions_per_image: at most, of each image; None: all.
        seed: chooses the captions.
    """

    indices: NDArray[np.int64]
    num_captions: int
    captions_per_image: int | None = None
    seed: int = 0

    def __len__(self) -> int:
        return len(self.indices)

    def captions(self, index: int, written: Sequence[str]) -> Sequence[str]:
        """Return the chosen ones of record ``index``'s captions, in their order: fewer are part of more."""
        if self.captions_per_image is None or self.captions_per_image >= len(written):
            return written
        order = generator(self.seed, SUBSET_CAPTIONS_STREAM, index).permutation(len(written))
        return [written[place] for place in sorted(order[: self.captions_per_image])]


def select(store: CaptionStore, objective: str, subset: Subset | None = None) -> Selection:
    """Return what the objective of this name sees of a store: all of it without ``subset``.

    The images of a smaller fraction are among those of a larger one with the same seed. Images
    without labels are then dropped if the objective is taught by labels, and by nothing else.

    Raises:
        InputError: the objective needs labels and there are none.
    """
    records = store.index
    indices: NDArray[np.int64] = np.arange(len(store))
    if subset is not None and subset.image_fraction < 1:
        order = generator(subset.seed, SUBSET_IMAGES_STREAM).permutation(len(store))
        indices = np.sort(order[: max(1, round(subset.image_fraction * len(store)))])
    most = None if subset is None else subset.captions_per_image
    seed = 0 if subset is None else subset.seed
    if objective not in LABEL_TASKS:
        counts = np.array(records.num_captions)[indices]
        return Selection(indices, int((counts if most is None else counts.clip(max=most)).sum()), most, seed)
    _require_labels(store, objective)
    labelled = indices[[bool(records.labels[index]) for index in indices]]
    if not len(labelled):
        raise InputError(
            f"{store.path}: none of the {len(indices)} images to be used shows a labelled object"
        )
    return Selection(labelled, 0)


def num_labels(train: CaptionStore, val: CaptionStore) -> int:
    """Return how many labels both stores have, the background (0) included: 81 for COCO.

    Raises:
        InputError: a store has no labels, or they name other categories than the other's.
    """
    for store in (train, val):
        _require_labels(store, LABEL_TASKS[0])
    if train.metadata.categories != val.metadata.categories:
        differing = set(train.metadata.categories) ^ set(val.metadata.categories)
        named = f", such as {min(differing)!r}" if differing else " in another order"
        raise InputError(
            f"{train.path} and {val.path} have different object categories{named}; make the "
            "`categories` of instances_train2017.json and instances_val2017.json equal"
        )
    return len(train.metadata.categories) + 1


def _require_labels(store: CaptionStore, objective: str) -> None:
    if not store.metadata.categories:
        raise InputError(
            f"{store.path} has no object labels, which objective.name: {objective} needs. Put "
            f"instances_{store.path.stem}2017.json beside captions_{store.path.stem}2017.json into the "
            "annotations/ folder of a dataset of download.folders.captions, then run the datasets stage "
            "again: `virtex run datasets --force`"
        )
