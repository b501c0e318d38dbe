"""Samples by number: training visits, validation images, images alone."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from components.core.errors import InputError
from components.data.batch import ImageSample, TargetSample
from components.data.image import DecodeError, Pixels, decode
from components.data.sampling import VALIDATION_STREAM, CropSizes, GroupedVisits, Visits, generator
from components.data.selection import Selection
from components.data.store import CaptionStore
from components.data.targets import MakeTargets
from components.data.transforms import EvalTransform, TrainTransform

Transform = Callable[[Pixels], torch.Tensor]


class TrainDataset(Dataset[TargetSample]):
    """Training samples by visit (components.data.sampling), so it has no length.

    A visit sees its image with a caption, crop, flip, jitter and masks drawn from the visit's own generator,
    and the crop has the size of the visit's iteration.
    """

    def __init__(
        self,
        store: CaptionStore,
        selection: Selection,
        transform: TrainTransform,
        targets: MakeTargets,
        *,
        seed: int,
    ) -> None:
        self.store = store
        self.selection = selection
        self.transform = transform
        self.targets = targets
        self.crop_sizes: CropSizes | None = None  # of the augmentation's size
        self.read_image: Callable[[bytes], bytes] = bytes  # of what the record has: the image itself
        self.visits = Visits(len(selection), seed)

    def grow_crops(self, pairs: Sequence[tuple[float, int]] | None, iterations: int, batch_size: int) -> None:
        """Give crops the sizes of their iterations, as `CropSizes.of`."""
        self.crop_sizes = CropSizes.of(pairs, iterations, batch_size)

    def draw_by_groups(self, num_groups: int, batch_size: int, accumulate: int) -> None:
        """Have equal parts of each round of an iteration from each group of shards, as `GroupedVisits`.

        Raises:
            InputError: the shards do not divide into so many groups, or a group has no image to be used.
        """
        sharded = self.store.sharded
        if sharded is None or sharded.num_shards % num_groups:
            raise InputError(
                f"{self.store.path} has {self.store.num_shards or 'no'} shards, which do not divide into "
                f"pretrain.shard_groups: {num_groups}; make a multiple of them with lmdb.shards"
            )
        groups = sharded.groups(num_groups)[self.selection.indices]
        if len(found := np.unique(groups)) < num_groups:
            raise InputError(
                f"{self.store.path}: only {len(found)} of pretrain.shard_groups: {num_groups} groups have "
                "images to be used; lower it, or use more images"
            )
        self.visits = GroupedVisits(groups, num_groups, self.visits.seed, batch_size, accumulate)

    def __getitem__(self, visit: int) -> TargetSample:
        index = int(self.selection.indices[self.visits.image(visit)])
        record = self.store.get(index)
        rng = self.visits.generator(visit)
        captions = self.selection.captions(index, record.captions)
        caption = captions[int(rng.integers(len(captions)))]
        size = None if self.crop_sizes is None else self.crop_sizes.of_visit(visit)
        pixels, caption = self.transform(
            _decode(self.read_image(record.image), record.image_id), caption, rng, size
        )
        return {
            "image": torch.from_numpy(pixels),
            "image_id": record.image_id,
            "targets": self.targets(caption, record.labels, rng),
        }


class ValDataset(Dataset[TargetSample]):
    """Every selected image of a store in its order with its first caption; the same each time."""

    def __init__(
        self, store: CaptionStore, selection: Selection, transform: EvalTransform, targets: MakeTargets
    ) -> None:
        self.store = store
        self.selection = selection
        self.transform = transform
        self.targets = targets

    def __len__(self) -> int:
        return len(self.selection)

    def __getitem__(self, position: int) -> TargetSample:
        index = int(self.selection.indices[position])
        record = self.store.get(index)
        rng = generator(0, VALIDATION_STREAM, index)
        return {
            "image": self.transform(_decode(record.image, record.image_id)),
            "image_id": record.image_id,
            "targets": self.targets(record.captions[0], record.labels, rng),
        }


class ImageDataset(Dataset[ImageSample]):
    """Images alone, in order, from files or from a store; nothing random.

    An image from a store keeps its ``image_id``; one from a file is named after the file, without
    folder and extension. Files are turned upright if ``upright``, those of a store always.
    """

    def __init__(
        self, images: Sequence[Path] | CaptionStore, transform: Transform, upright: bool = True
    ) -> None:
        self.images = images
        self.transform = transform
        self.upright = upright

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> ImageSample:
        if isinstance(self.images, CaptionStore):
            record = self.images.get(index)
            return {
                "image": self.transform(_decode(record.image, record.image_id)),
                "image_id": record.image_id,
            }
        path = self.images[index]
        return {"image": self.transform(read_image(path, self.upright)), "image_id": path.stem}


def read_image(path: Path, upright: bool = True) -> Pixels:
    """Return the pixels of an image file, turned as its metadata say if ``upright``.

    Raises:
        InputError: if it cannot be read or decoded.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the dataset's folder") from error
    return _decode(data, str(path), upright)


def _decode(data: bytes, name: str, upright: bool = True) -> Pixels:
    try:
        return decode(data, upright=upright)
    except DecodeError as error:
        raise InputError(f"{name}: cannot be read as an image: {error}; replace it") from error
