"""Building a store: ours beside a plain builder, one image after the other with OpenCV.

The plain builder keeps JPEGs where ours writes JPEGs, and decoded pixels where ours keeps pixels or the
files' bytes. It shrinks by area averaging, the one of OpenCV's ways that antialiases, as ours does; Pillow,
the other plain way, takes longer (docs/performance.md).
"""

import multiprocessing
import tempfile
from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import lmdb
import msgpack

from components.bench.drawn import draw_photographs
from components.bench.timing import Comparison, in_turn
from components.core import machine
from components.core.process import keep_freed_memory
from components.data.build import build_store
from components.data.record import StoreForm
from components.sources.readers.types import CaptionedImage

TARGET = 2.0
_MAP_BYTES = 2**40


@dataclass(frozen=True, slots=True)
class Size:
    """Images, and the pixels of each."""

    images: int = 400
    height: int = 480
    width: int = 640
    short_side: int = 256


FULL = Size()
QUICK = Size(images=6, height=48, width=64, short_side=32)


def run(size: Size, rounds: int) -> list[Comparison]:
    """Measure images per second per core of each way to keep them, beside the plain builder's.

    Each side has a process of its own, as ours has its C library keep freed memory.
    """
    spawn = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(1, spawn) as plainly,
        ProcessPoolExecutor(1, spawn, keep_freed_memory) as ours,
    ):
        images = draw_photographs(Path(folder), size.images, size.height, size.width)
        return [
            _compare(plainly, ours, images, size, short_side, decoded, rounds)
            for short_side in (None, size.short_side)
            for decoded in (False, True)
        ]


def _compare(
    plainly: Executor,
    ours: Executor,
    images: Sequence[CaptionedImage],
    size: Size,
    short_side: int | None,
    decoded: bool,
    rounds: int,
) -> Comparison:
    folder = images[0].place.parent
    plain, store = folder / "plain.lmdb", folder / "store.lmdb"
    form = StoreForm(short_side, decoded=decoded)
    quality = None if decoded or short_side is None else form.jpeg_quality
    build = partial(build_store, store, images, form, num_workers=machine.num_cpus())
    baseline_times, our_times = in_turn(
        (
            lambda: plainly.submit(build_plainly, plain, images, short_side, quality).result(),
            lambda: ours.submit(build).result(),
        ),
        rounds,
    )
    kept = "pixels" if decoded else "the files' bytes" if short_side is None else "JPEG"
    at = "" if short_side is None else f" of shorter side {short_side}"
    figures = {
        "kB per image of the baseline": round(plain.stat().st_size / size.images / 1e3, 1),
        "kB per image of ours": round(store.stat().st_size / size.images / 1e3, 1),
    }
    name = f"LMDB of {size.width}x{size.height} photographs, keeping {kept}{at}"
    return Comparison(name, size.images, "images", "cpu", baseline_times, our_times, TARGET, figures)


def build_plainly(
    path: Path, images: Sequence[CaptionedImage], short_side: int | None, quality: int | None
) -> None:
    """Read, decode, resize and put, one image at a time; a store that is there is replaced.

    Args:
        path: the store.
        images: to read.
        short_side: of what is kept; None keeps the size.
        quality: of JPEGs; None keeps pixels, RGB.
    """
    path.unlink(missing_ok=True)
    with (
        lmdb.open(str(path), subdir=False, lock=False, map_size=_MAP_BYTES) as environment,
        environment.begin(write=True) as transaction,
    ):
        for index, image in enumerate(images):
            pixels = cv2.imread(str(image.path))
            assert pixels is not None
            if short_side is not None:
                scale = short_side / min(pixels.shape[:2])
                pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            if quality is None:
                kept = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
            else:
                kept = cv2.imencode(".jpg", pixels, (cv2.IMWRITE_JPEG_QUALITY, quality))[1]
            value = (image.image_id, pixels.shape, kept.tobytes(), image.captions)
            transaction.put(str(index).encode(), msgpack.packb(value))
