"""From a store to normalised batches: our loader beside a plain one that reads the same records."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from components.bench.drawn import draw_photographs
from components.bench.plain_loader import MAX_LENGTH, PlainDataset, plain_loader
from components.bench.timing import Comparison, Work, in_turn
from components.core import machine
from components.data.batch import Batch
from components.data.build import build_store
from components.data.dataset import TrainDataset
from components.data.loader import train_loader
from components.data.selection import select
from components.data.store import CaptionStore
from components.data.targets import make_targets
from components.data.transforms import TrainTransform
from components.params import Augmentation
from components.sources.readers.types import CaptionedImage
from components.text.tokenizer import normalise
from components.text.tokenizer import CaptionTokenizer, train_tokenizer
from components.sources.readers.types import CaptionedImage
from components.text.tokenizer import CaptionTokenizer, normalise, train_tokenizer
from components.training.validation import to_device

TARGET = 3.0
AS_FILES = "the files' bytes"
BUILD_OPTIONS: dict[str, Any] = {
    "jpeg_quality": 95,
    "on_unreadable": "refuse",
    "num_workers": machine.num_cpus(),
}
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
    """Images a second and core, from stores that keep images in different ways.

    All rows have the same baseline, on the files' own bytes. ``lmdb.decoded`` changes nothing that the
    model sees; ``lmdb.short_side`` does: small crops lose detail.
    """
    augmentation = AUGMENTATION.model_copy(update={"crop_size": size.crop_size})
    with tempfile.TemporaryDirectory() as folder:
        images = draw_photographs(Path(folder), size.images, size.height, size.width)
        tokenizer, stores = prepare(Path(folder), images, kept_as(size))
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
            TARGET,
            {"kB an image": round(store.metadata.image_bytes / size.images / 1e3, 1)},
        )
        for (what, store), times in zip(stores.items(), our_times, strict=True)
    ]


def prepare(
    folder: Path, images: Sequence[CaptionedImage], ways: Mapping[str, Mapping[str, Any]]
) -> tuple[CaptionTokenizer, dict[str, CaptionStore]]:
    """A tokenizer of the images' captions, and a store in ``folder`` for each of ``ways``, see `kept_as`."""
    model = folder / "tokenizer.model"
    train_tokenizer([normalise(text) for image in images for text in image.captions], 60, model)
    stores = {}
    for number, (name, options) in enumerate(ways.items()):
        path = folder / f"{number}.lmdb"
        build_store(path, images, **BUILD_OPTIONS, **options)
        stores[name] = CaptionStore(path)
    return CaptionTokenizer(model), stores


def kept_as(size: Size) -> dict[str, dict[str, Any]]:
    """Ways to keep images, by what params.yaml calls them: options of `build_store`."""
    side = size.short_side
    return {
        AS_FILES: {"short_side": None},
        "lmdb.decoded": {"short_side": None, "decoded": True},
        f"lmdb.short_side {side}": {"short_side": side},
        f"lmdb.short_side {side}, decoded": {"short_side": side, "decoded": True},
    }


def read_ours(
    store: CaptionStore,
    tokenizer: CaptionTokenizer,
    augmentation: Augmentation,
    size: Size,
    num_workers: int | None = None,
) -> None:
    """Load what a round loads; ``num_workers`` None is one a core."""
    num_workers = machine.num_cpus() if num_workers is None else num_workers
    for batch in our_batches(store, tokenizer, augmentation, size.batch, size.batches, num_workers):
        to_device(batch, torch.device("cpu"), torch.contiguous_format)  # normalised here, as in training


def our_batches(
    store: CaptionStore,
    tokenizer: CaptionTokenizer,
    augmentation: Augmentation,
    batch_size: int,
    num_batches: int,
    num_workers: int,
    pin_memory: bool = False,
) -> Iterator[Batch]:
    """Batches for bicaptioning as the pretrain stage loads them."""
    dataset = TrainDataset(
        store,
        select(store, "bicaptioning"),
        TrainTransform(augmentation),
        make_targets("bicaptioning", tokenizer, MAX_LENGTH),
        seed=0,
    )
    return train_loader(
        dataset,
        batch_size=batch_size,
        start_iteration=0,
        num_iterations=num_batches,
        num_workers=num_workers,
        pin_memory=pin_memory,
    )


def _read(batches: Iterable[object]) -> None:
    for _ in batches:
        pass
