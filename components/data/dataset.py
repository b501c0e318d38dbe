"""Samples by number: training visits, validation images, images alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from torch.utils.data import Dataset

from components.data.batch import CaptionSample, ImageSample
from components.data.image import DecodeError, Pixels, decode
from components.data.store import CaptionStore
from components.data.transforms import EvalTransform, TrainTransform
from components.data.visits import Visits
from components.errors import InputError


class Tokenizer(Protocol):
    """What a dataset asks of a tokenizer; it travels to worker processes, so it must pickle."""

    def caption_tokens(self, text: str, max_length: int) -> list[int]:
        """[SOS], the caption's pieces and [EOS], cut to ``max_length``."""
        ...


class TrainDataset(Dataset[CaptionSample]):
    """Training samples by visit (components.data.visits), so it has no length.

    A visit sees its image with a caption, crop, flip and jitter drawn from the visit's own generator.
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
        self.visits = Visits(len(store), seed)

    @property
    def num_images(self) -> int:
        """Images in the store: visits in an epoch."""
        return len(self.store)

    def __getitem__(self, visit: int) -> CaptionSample:
        record = self.store.get(self.visits.image(visit))
        rng = self.visits.generator(visit)
        caption = record.captions[rng.integers(len(record.captions))]
        image, caption = self.transform(_decode(record.image, record.image_id), caption, rng)
        tokens = self.tokenizer.caption_tokens(caption, self.max_caption_length)
        return {"image": image, "image_id": record.image_id, "caption_tokens": tokens}


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
        return {"image": self.transform(read_image(path)), "image_id": path.stem}


def read_image(path: Path) -> Pixels:
    """The pixels of an image file.

    Raises:
        InputError: if it cannot be read or decoded.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the dataset's folder") from error
    return _decode(data, str(path))


def _decode(data: bytes, name: str) -> Pixels:
    try:
        return decode(data)
    except DecodeError as error:
        raise InputError(f"{name}: cannot be read as an image: {error}; replace it") from error
