"""Samples by number: training visits, validation images, images alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from components.data.batch import CaptionSample, ImageSample
from components.data.image import DecodeError, Pixels, decode
from components.data.store import CaptionStore
from components.data.transforms import EvalTransform, TrainTransform
from components.errors import InputError

# What a random stream is for; SeedSequence keeps streams with different keys apart.
_ORDER_STREAM = 0
_VISIT_STREAM = 1


class Tokenizer(Protocol):
    """What a dataset asks of a tokenizer; it travels to worker processes, so it must pickle."""

    def caption_tokens(self, text: str, max_length: int) -> list[int]:
        """[SOS], the caption's pieces and [EOS], cut to ``max_length``."""
        ...


class TrainDataset(Dataset[CaptionSample]):
    """Training samples by visit, the number of images seen before in the whole run.

    Visit ``v`` is image ``v mod N`` of epoch ``v div N``'s own random order, with a caption, crop,
    flip and jitter drawn from a generator of its own. A visit's sample thus depends on the seed and
    on nothing that ran before it, and a run continues exactly from an iteration number alone.
    There is no end: any visit from 0 on exists, so the dataset has no length.
    """

    def __init__(
        self,
        store: CaptionStore,
        transform: TrainTransform,
        tokenizer: Tokenizer,
        *,
        max_caption_length: int,
        seed: int,
    ) -> None:
        self.store = store
        self.transform = transform
        self.tokenizer = tokenizer
        self.max_caption_length = max_caption_length
        self.seed = seed
        self._orders: dict[int, NDArray[np.int64]] = {}

    @property
    def num_images(self) -> int:
        """Images in the store: visits in an epoch."""
        return len(self.store)

    def __getitem__(self, visit: int) -> CaptionSample:
        epoch, position = divmod(visit, self.num_images)
        record = self.store.get(int(self._order(epoch)[position]))
        rng = _generator(self.seed, _VISIT_STREAM, visit)
        caption = record.captions[rng.integers(len(record.captions))]
        image, caption = self.transform(_decode(record.image, record.image_id), caption, rng)
        tokens = self.tokenizer.caption_tokens(caption, self.max_caption_length)
        return {"image": image, "image_id": record.image_id, "caption_tokens": tokens}

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if epoch not in self._orders:
            if len(self._orders) == 2:  # a worker is in two epochs at most, at the seam
                self._orders.clear()
            self._orders[epoch] = _generator(self.seed, _ORDER_STREAM, epoch).permutation(self.num_images)
        return self._orders[epoch]


class ValDataset(Dataset[CaptionSample]):
    """Every image of a store in its order with its first caption; nothing random."""

    def __init__(
        self, store: CaptionStore, transform: EvalTransform, tokenizer: Tokenizer, *, max_caption_length: int
    ) -> None:
        self.store = store
        self.transform = transform
        self.tokenizer = tokenizer
        self.max_caption_length = max_caption_length

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, index: int) -> CaptionSample:
        record = self.store.get(index)
        image = self.transform(_decode(record.image, record.image_id))
        tokens = self.tokenizer.caption_tokens(record.captions[0], self.max_caption_length)
        return {"image": image, "image_id": record.image_id, "caption_tokens": tokens}


class ImageDataset(Dataset[ImageSample]):
    """Images alone, in order, from files or from a store; nothing random.

    An image from a store keeps its ``image_id``; one from a file is named after the file, without
    folder and extension.
    """

    def __init__(self, images: Sequence[Path] | CaptionStore, transform: EvalTransform) -> None:
        self.images = images
        self.transform = transform

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
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InputError(
                f"{path}: cannot be read ({error.strerror}); check the dataset's folder"
            ) from error
        return {"image": self.transform(_decode(data, str(path))), "image_id": path.stem}


def _generator(seed: int, stream: int, number: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(stream, number)))


def _decode(data: bytes, name: str) -> Pixels:
    try:
        return decode(data)
    except DecodeError as error:
        raise InputError(f"{name}: cannot be read as an image: {error}; replace it") from error
