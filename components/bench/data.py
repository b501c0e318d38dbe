"""From a store to normalised batches: our loader beside a plain one that reads the same records.

The plain loader is PyTorch's with OpenCV. Its transforms do what the paper's did (section 3.2;
albumentations on OpenCV): bilinear crop without antialiasing, jitter on uint8, normalisation in float32,
all an image at a time.
"""

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from cv2.typing import MatLike
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from components.bench.drawn import draw_photographs
from components.bench.timing import Comparison, Work, in_turn
from components.core import machine
from components.data.batch import Batch, collate_targets
from components.data.build import build_store
from components.data.dataset import TrainDataset
from components.data.loader import visit_loader
from components.data.normalisation import IMAGENET_MEAN, IMAGENET_STD
from components.data.record import StoreForm
from components.data.selection import select
from components.data.store import CaptionStore
from components.data.tar_visits import stream_images
from components.data.targets import make_targets
from components.data.transforms import TrainTransform
from components.params import Augmentation
from components.sources.readers.types import CaptionedImage
from components.text.tokenizer import CaptionTokenizer, normalise, train_tokenizer
from components.training.validation import to_device

TARGETS = {False: 2.0, True: 4.0}  # by whether a store keeps pixels
MAX_LENGTH = 30  # caption tokens
AS_FILES = "the files' bytes"
AUGMENTATION = Augmentation(  # section 3.2
    crop_size=224,
    crop_scale=(0.2, 1.0),
    crop_ratio=(0.75, 4 / 3),
    flip_probability=0.5,
    jitter_probability=0.8,
    brightness=0.4,
    contrast=0.4,
    saturation=0.4,
    hue=0.1,
)


@dataclass(frozen=True, slots=True)
class Size:
    """Images of the store, pixels of each, and what a round loads."""

    images: int = 128
    height: int = 480
    width: int = 640
    short_side: int = 256
    crop_size: int = 224
    batch: int = 64
    batches: int = 32


FULL = Size()
QUICK = Size(images=6, height=48, width=64, short_side=32, crop_size=32, batch=4, batches=2)


def run(size: Size, rounds: int) -> list[Comparison]:
    """Measure images per second per core, from stores that keep images in different ways.

    All rows have the same baseline, on the files' own bytes. ``lmdb.decoded`` changes nothing that the
    model sees; ``lmdb.short_side`` does: small crops lose detail.
    """
    augmentation = AUGMENTATION.model_copy(update={"crop_size": size.crop_size})
    forms = kept_as(size)
    with tempfile.TemporaryDirectory() as folder:
        images = draw_photographs(Path(folder), size.images, size.height, size.width)
        tokenizer, stores = prepare(Path(folder), images, forms)
        plain = PlainDataset(stores[AS_FILES], tokenizer, augmentation, size.batch * size.batches)
        works: list[Work] = [lambda: _read(plain_loader(plain, size.batch, machine.num_cpus()))]
        works += [partial(read_ours, store, tokenizer, augmentation, size) for store in stores.values()]
        baseline_times, *our_times = in_turn(works, rounds)
    return [
        Comparison(
            f"{size.width}x{size.height} to {size.crop_size} px batches, {what}",
            size.batch * size.batches,
            "images",
            "cpu",
            baseline_times,
            times,
            TARGETS[forms[what].decoded],
            {"kB per image": round(store.metadata.image_bytes / size.images / 1e3, 1)},
        )
        for (what, store), times in zip(stores.items(), our_times, strict=True)
    ]


def prepare(
    folder: Path, images: Sequence[CaptionedImage], ways: Mapping[str, StoreForm]
) -> tuple[CaptionTokenizer, dict[str, CaptionStore]]:
    """Return a tokenizer of the captions, and a store in ``folder`` for each of ``ways``, see `kept_as`."""
    model = folder / "tokenizer.model"
    train_tokenizer([normalise(text) for image in images for text in image.captions], 60, model)
    stores = {}
    for number, (name, form) in enumerate(ways.items()):
        path = folder / f"{number}.lmdb"
        build_store(path, images, form, num_workers=machine.num_cpus())
        stores[name] = CaptionStore(path)
    return CaptionTokenizer(model), stores


def kept_as(size: Size) -> dict[str, StoreForm]:
    """Return ways to keep images, by what params.yaml calls them."""
    side = size.short_side
    return {
        AS_FILES: StoreForm(),
        "lmdb.decoded": StoreForm(decoded=True),
        f"lmdb.short_side {side}": StoreForm(side),
        f"lmdb.short_side {side}, decoded": StoreForm(side, decoded=True),
    }


def read_ours(
    store: CaptionStore,
    tokenizer: CaptionTokenizer,
    augmentation: Augmentation,
    size: Size,
    num_workers: int | None = None,
    in_tars: bool = False,
) -> None:
    """Load what a round loads; ``num_workers`` None is one per core."""
    num_workers = machine.num_cpus() if num_workers is None else num_workers
    for batch in our_batches(
        store, tokenizer, augmentation, size.batch, size.batches, num_workers, in_tars=in_tars
    ):
        to_device(batch, torch.device("cpu"), torch.contiguous_format)  # normalised here, as in training


def our_batches(
    store: CaptionStore,
    tokenizer: CaptionTokenizer,
    augmentation: Augmentation,
    batch_size: int,
    num_batches: int,
    num_workers: int,
    lengths: list[int] | None = None,
    in_tars: bool = False,
) -> Iterator[Batch]:
    """Return the batches for bicaptioning as the pretrain stage loads them; ``lengths`` as it pads them."""
    dataset = TrainDataset(
        store,
        select(store, "bicaptioning"),
        TrainTransform(augmentation),
        make_targets("bicaptioning", tokenizer, MAX_LENGTH),
        seed=0,
    )
    if in_tars:
        stream_images(dataset, None)
    return visit_loader(
        dataset,
        partial(collate_targets, lengths=lengths),
        batch_size=batch_size,
        start_iteration=0,
        num_iterations=num_batches,
        num_workers=num_workers,
    )


def _read(batches: Iterable[object]) -> None:
    for _ in batches:
        pass


class PlainDataset(Dataset[tuple[Tensor, Tensor]]):
    """Images and captions by index, everything done an image at a time."""

    def __init__(
        self, store: CaptionStore, tokenizer: CaptionTokenizer, augmentation: Augmentation, length: int
    ) -> None:
        self.store = store
        self.tokenizer = tokenizer
        self.augmentation = augmentation
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng(index)
        record = self.store.get(index % len(self.store))
        caption = record.captions[rng.integers(len(record.captions))]
        pixels = cv2.imdecode(np.frombuffer(record.image, np.uint8), cv2.IMREAD_COLOR)
        assert pixels is not None
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
        image = plain_transform(pixels, self.augmentation, rng)
        return image, torch.tensor(self.tokenizer.caption_tokens(caption, MAX_LENGTH))


def plain_transform(pixels: MatLike, augmentation: Augmentation, rng: np.random.Generator) -> Tensor:
    """Crop, flip, jitter and normalise one image, as albumentations does it."""
    area = pixels.shape[0] * pixels.shape[1] * rng.uniform(*augmentation.crop_scale)
    ratio = math.exp(rng.uniform(*np.log(augmentation.crop_ratio)))
    height = min(pixels.shape[0], max(1, round(math.sqrt(area / ratio))))
    width = min(pixels.shape[1], max(1, round(math.sqrt(area * ratio))))
    top = rng.integers(pixels.shape[0] - height + 1)
    left = rng.integers(pixels.shape[1] - width + 1)
    side = augmentation.crop_size
    image = cv2.resize(pixels[top : top + height, left : left + width], (side, side))
    if rng.random() < augmentation.flip_probability:
        image = cv2.flip(image, 1)
    if rng.random() < augmentation.jitter_probability:
        image = _plain_jitter(image, augmentation, rng)
    values = image.astype(np.float32)
    values -= np.array(IMAGENET_MEAN, np.float32) * 255
    values *= 1 / (np.array(IMAGENET_STD, np.float32) * 255)
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))


def _plain_jitter(image: MatLike, augmentation: Augmentation, rng: np.random.Generator) -> MatLike:
    def factor(strength: float) -> float:
        return float(rng.uniform(1 - strength, 1 + strength))

    def brightness(image: MatLike) -> MatLike:
        table = np.arange(256) * factor(augmentation.brightness)
        return cv2.LUT(image, np.clip(table, 0, 255).astype(np.uint8))

    def contrast(image: MatLike) -> MatLike:
        scale, mean = factor(augmentation.contrast), cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).mean()
        table = np.arange(256) * scale + mean * (1 - scale)
        return cv2.LUT(image, np.clip(table, 0, 255).astype(np.uint8))

    def saturation(image: MatLike) -> MatLike:
        scale, gray = factor(augmentation.saturation), cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        return cv2.addWeighted(image, scale, cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB), 1 - scale, 0)

    def hue(image: MatLike) -> MatLike:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        table = (np.arange(256) + 180 * rng.uniform(-augmentation.hue, augmentation.hue)) % 180
        hsv[..., 0] = cv2.LUT(hsv[..., 0], table.astype(np.uint8))
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)

    changes: list[Callable[[MatLike], MatLike]] = [brightness, contrast, saturation, hue]
    for index in rng.permutation(len(changes)):
        image = changes[index](image)
    return image


def plain_loader(
    dataset: PlainDataset, batch_size: int, num_workers: int
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Return batches of images ``(batch, 3, side, side)`` float32 and of padded captions."""
    return DataLoader(
        dataset, batch_size, num_workers=num_workers, pin_memory=machine.uses_gpu(), collate_fn=_collate
    )


def _collate(samples: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    images, tokens = zip(*samples, strict=True)
    return torch.stack(images), pad_sequence(list(tokens), batch_first=True)
