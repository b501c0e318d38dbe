"""Drawing many scenes to image files with several processes; what a writer needs to know comes back."""

import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from components.sources.drawn_world.captions import captions_of
from components.sources.drawn_world.compose import SceneStyle, compose
from components.sources.drawn_world.render import render
from components.sources.drawn_world.scene import Placed
from components.sources.drawn_world.shapes import Look
from components.sources.drawn_world.sprites import box_of, polygons_of, run_lengths

JPEG_QUALITY = 90
CHUNK = 16  # images a worker takes at a time
MIN_SEEN_SHARE = 0.35  # of an object that is not difficult
MIN_SEEN_AREA = 0.006  # the same, as a share of the squared shorter side


@dataclass(frozen=True, slots=True)
class Drawing:
    """One image to draw: everything in it follows from ``(seed, stream, index)`` and the style."""

    seed: int
    stream: int
    index: int
    short_side: int
    style: SceneStyle
    path: Path


@dataclass(frozen=True, slots=True)
class ObjectRecord:
    """What the annotations say of one object.

    Attributes:
        look: its shape, colour, texture and size.
        box: x, y, width, height in pixels of what is seen, from 0.
        area: pixels seen.
        polygons: their exact outline.
        truncated: whether it sticks out of the image.
        difficult: whether it is mostly hidden, or tiny.
    """

    look: Look
    box: tuple[int, int, int, int]
    area: int
    polygons: list[list[int]]
    truncated: bool
    difficult: bool


@dataclass(frozen=True, slots=True)
class CrowdRecord:
    """What the annotations say of a crowd; ``counts`` are uncompressed COCO run lengths."""

    look: Look
    box: tuple[int, int, int, int]
    area: int
    counts: list[int]


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One drawn image: size in pixels, captions, objects from back to front."""

    width: int
    height: int
    captions: tuple[str, ...]
    objects: tuple[ObjectRecord, ...]
    crowd: CrowdRecord | None


def draw(drawing: Drawing) -> ImageRecord:
    """Draw one scene into its file."""
    rng = np.random.default_rng([drawing.seed, drawing.stream, drawing.index])
    scene = compose(rng, drawing.short_side, drawing.style)
    image = Image.fromarray(render(scene, rng))
    image.save(drawing.path, format="JPEG", quality=JPEG_QUALITY)
    crowd = None
    if scene.crowd is not None:
        seen = scene.crowd.visible
        crowd = CrowdRecord(scene.crowd.look, box_of(seen), int(np.count_nonzero(seen)), run_lengths(seen))
    return ImageRecord(
        width=scene.size[1],
        height=scene.size[0],
        captions=tuple(captions_of(scene, rng)),
        objects=tuple(_record(placed, drawing.short_side) for placed in scene.objects),
        crowd=crowd,
    )


def _record(placed: Placed, short_side: int) -> ObjectRecord:
    area = int(np.count_nonzero(placed.visible))
    return ObjectRecord(
        look=placed.look,
        box=box_of(placed.visible),
        area=area,
        polygons=polygons_of(placed.visible),
        truncated=placed.truncated,
        difficult=placed.visible_share < MIN_SEEN_SHARE or area < MIN_SEEN_AREA * short_side**2,
    )


class Studio:
    """Draws lists of images with ``num_workers`` processes; the results do not depend on how many."""

    def __init__(self, executor: ProcessPoolExecutor | None, progress: tqdm) -> None:
        self._executor = executor
        self._progress = progress

    def draw_all(self, drawings: Sequence[Drawing]) -> list[ImageRecord]:
        """Draw all images; their records in the same order.

        After a failure no worker draws any more when the exception arrives, so that the caller may
        remove the folder.
        """
        if self._executor is None:
            return self._collect(map(draw, drawings))
        try:
            return self._collect(self._executor.map(draw, drawings, chunksize=CHUNK))
        except BaseException:
            self._executor.shutdown(wait=True, cancel_futures=True)
            raise

    def _collect(self, results: Iterator[ImageRecord]) -> list[ImageRecord]:
        records = []
        for record in results:
            records.append(record)
            self._progress.update()
        return records


@contextmanager
def studio(num_workers: int, num_images: int, progress: bool) -> Iterator[Studio]:
    """Open the workers; with one or none the calling process draws.

    Args:
        num_workers: number of processes.
        num_images: the progress bar's total.
        progress: whether to show a progress bar on stderr.
    """
    bar = tqdm(total=num_images, desc="drawing", unit="image", disable=not progress)
    if num_workers <= 1:
        with bar:
            yield Studio(None, bar)
        return
    context = multiprocessing.get_context("spawn")
    with bar, ProcessPoolExecutor(num_workers, context) as executor:
        _start_deaf(executor, num_workers)
        yield Studio(executor, bar)


def _start_deaf(executor: ProcessPoolExecutor, num_workers: int) -> None:
    """Start the workers with Ctrl-C held back, already while they import, as it reaches the whole group.

    The parent process stops them in order.
    """
    resource_tracker.ensure_running()  # whose start lets signals through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        for _ in range(num_workers):  # one for each that has nothing to do yet
            executor.submit(int)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
