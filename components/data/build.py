"""Building a captioned-image store (format: components.data.record) from image files.

Threads read, decode and resize: simplejpeg, OpenCV and Pillow release the interpreter's lock, so
threads use the cores as well as processes would, without sending every image through a pipe and
without anything left running after an interruption.
"""

import errno
import hashlib
import os
import shutil
import sys
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import lmdb
from tqdm import tqdm

from components.core.errors import DISK_FULL, InputError
from components.core.files import write_csv, writing
from components.core.foreign_text import printable
from components.data.image import DecodeError, decode, encode_jpeg, encode_ppm, resize_short_side, verify
from components.data.record import (
    INDEX_KEY,
    META_KEY,
    HeadFacts,
    Metadata,
    Record,
    ShardFacts,
    StoreForm,
    key_of,
    pack_index,
    pack_metadata,
    pack_record,
)
from components.data.shards import UNREAD, SourcesDigest, content_digest, known_digest
from components.data.tar_images import place_in_tar
from components.sources.readers.types import CaptionedImage

_INITIAL_MAP_BYTES = 16 * 2**20
_COMMIT_BYTES = 8 * 2**20  # by size, not by time, so that equal inputs give equal files
_PENDING_PER_WORKER = 8


@dataclass(frozen=True, slots=True)
class SkippedImage:
    """An image left out of a store, and why; ``content`` is its digest, if it falls into a shard."""

    image_id: str
    dataset: str
    path: Path
    reason: str
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build did.

    Attributes:
        count: images written.
        num_captions: captions written.
        num_labelled: images written that have labels.
        num_resized: images re-encoded at the smaller size.
        image_bytes: bytes of encoded images.
        file_bytes: size of the store.
        skipped: images left out, in order.
    """

    count: int
    num_captions: int
    num_labelled: int
    num_resized: int
    image_bytes: int
    file_bytes: int
    skipped: tuple[SkippedImage, ...]

    def write_skipped(self, path: Path) -> bool:
        """Write the images left out to a table, if there are any; return whether there are."""
        path.unlink(missing_ok=True)
        if self.skipped:
            rows = ((image.image_id, image.dataset, image.path, image.reason) for image in self.skipped)
            write_csv(path, ("image_id", "dataset", "path", "reason"), rows)
        return bool(self.skipped)

    def figures(self, seconds: float) -> dict[str, float]:
        """Return the figures of a stage that took so long."""
        return {
            "images": self.count,
            "captions": self.num_captions,
            "labelled": self.num_labelled,
            "resized": self.num_resized,
            "skipped": len(self.skipped),
            "image_bytes": self.image_bytes,
            "file_bytes": self.file_bytes,
            "seconds": round(seconds, 3),
            "images_per_second": round(self.count / seconds, 1),
        }


@dataclass(frozen=True, slots=True)
class _Prepared:
    source: CaptionedImage
    image: bytes
    resized: bool
    content: bytes


def build_store(
    path: Path,
    images: Sequence[CaptionedImage],
    form: StoreForm,
    *,
    num_workers: int,
    shard: tuple[int, int] | None = None,
    progress: bool = False,
) -> BuildReport:
    """Write ``images``, in order, to a new store that takes the place of ``path``.

    Every image is read to its end to prove that it can be decoded. The result is the same bytes for
    any number of workers. On any failure or interruption ``path`` stays as it was.

    Args:
        path: the store, a single file.
        images: with distinct ``image_id``.
        form: how they are kept.
        num_workers: threads that read and decode.
        shard: which shard these images are, and of how many (components.data.shards); None: a whole split.
        progress: show a bar on standard error.

    Raises:
        InputError: if there is no image to write, an image is unreadable and refused, or the disk
            is full.
    """
    if not images:
        raise InputError(f"{path}: no captioned images to write; check download.folders in params.yaml")
    with writing(path) as temporary, closing(StoreWriter(temporary, path, shard is not None)) as writer:
        with closing(_prepare_all(images, num_workers, form, hashed=shard is not None)) as prepared:
            outcomes = _bar(prepared, path.name, len(images), progress)
            sources = SourcesDigest(form)
            skipped, left_out = _write_all(writer, images, outcomes, form.on_unreadable == "skip", sources)
        if not writer.count:
            raise InputError(
                f"{path}: none of the {len(images)} images could be read; "
                f"first {skipped[0].path}: {skipped[0].reason}"
            )
        facts = None
        if shard is not None:
            datasets = tuple(sorted({image.dataset for image in images}))
            facts = ShardFacts(
                *shard,
                known_digest(map(known_of, images)),
                sources.hexdigest(),
                writer.records.hexdigest(),
                datasets,
                tuple(left_out),
            )
        writer.finish(form, len(skipped), facts)
    return BuildReport(
        count=writer.count,
        num_captions=sum(writer.captions),
        num_labelled=sum(map(bool, writer.labels)),
        num_resized=writer.num_resized,
        image_bytes=writer.image_bytes,
        file_bytes=path.stat().st_size,
        skipped=tuple(skipped),
    )


def _write_all(
    writer: "StoreWriter",
    images: Sequence[CaptionedImage],
    outcomes: Iterable[_Prepared | SkippedImage],
    may_skip: bool,
    sources: SourcesDigest,
) -> tuple[list[SkippedImage], list[int]]:
    """Return the images left out and their positions."""
    skipped, left_out = [], []
    for position, (image, outcome) in enumerate(zip(images, outcomes, strict=True)):
        if isinstance(outcome, _Prepared):
            writer.add(outcome)
        elif may_skip:
            skipped.append(outcome)
            left_out.append(position)
        else:
            raise _unreadable(outcome)
        if outcome.content:
            sources.add(known_of(image), outcome.content)
    return skipped, left_out


def known_of(image: CaptionedImage) -> tuple[object, ...]:
    """Return what an image's record says of it besides its pixels."""
    return image.image_id, image.dataset, image.place.name, image.captions, image.labels


class StoreWriter:
    """Appends records to a new LMDB file at ``path``, to become ``target``, growing its map as needed.

    With ``hashed`` it keeps the digest of the records, ``records``.
    """

    def __init__(self, path: Path, target: Path, hashed: bool = False) -> None:
        self.count = self.num_resized = self.image_bytes = 0
        self.captions: list[int] = []  # how many, by record
        self.labels: list[tuple[int, ...]] = []  # by record
        self.records = hashlib.sha256()
        self._hashed = hashed
        self._path = path
        self._target = target
        self._pending: list[tuple[bytes, bytes]] = []
        self._pending_bytes = 0
        self._map_bytes = _INITIAL_MAP_BYTES
        with self._explaining_full_disk():
            self._environment = lmdb.open(
                str(path), subdir=False, lock=False, sync=False, metasync=False, map_size=self._map_bytes
            )

    def add(self, prepared: _Prepared) -> None:
        """Write an image as the next record."""
        source = prepared.source
        record = Record(
            printable(source.image_id),
            source.dataset,
            printable(source.place.name),
            prepared.image,
            source.captions,
            source.labels,
        )
        packed = pack_record(record)
        if self._hashed:
            self.records.update(packed)
        self.put(key_of(self.count), packed)
        self.index(source)
        self.num_resized += prepared.resized
        self.image_bytes += len(prepared.image)

    def index(self, source: CaptionedImage) -> None:
        """Name an image in the index."""
        self.count += 1
        self.captions.append(len(source.captions))
        self.labels.append(source.labels)

    def finish(
        self, form: StoreForm, num_skipped: int = 0, facts: ShardFacts | HeadFacts | None = None
    ) -> None:
        """Write the index and the metadata."""
        self.put(INDEX_KEY, pack_index(self.captions, self.labels))
        metadata = Metadata(
            count=self.count,
            captions=sum(self.captions),
            image_bytes=self.image_bytes,
            skipped=num_skipped,
            short_side=form.short_side,
            jpeg_quality=form.jpeg_quality,
            categories=form.categories,
            shard=facts if isinstance(facts, ShardFacts) else None,
            head=facts if isinstance(facts, HeadFacts) else None,
        )
        self.put(META_KEY, pack_metadata(metadata))
        self._commit()

    def close(self) -> None:
        self._environment.close()

    def put(self, key: bytes, value: bytes) -> None:
        """Write a value; keys must rise."""
        self._pending.append((key, value))
        self._pending_bytes += len(value)
        if self._pending_bytes >= _COMMIT_BYTES:
            self._commit()

    def _commit(self) -> None:
        with self._explaining_full_disk():
            while not self._try_to_commit():
                self._map_bytes *= 2
                self._environment.set_mapsize(self._map_bytes)
        self._pending.clear()
        self._pending_bytes = 0

    def _try_to_commit(self) -> bool:
        try:
            with self._environment.begin(write=True) as transaction:
                for key, value in self._pending:
                    transaction.put(key, value, append=True)
        except lmdb.MapFullError:
            return False
        return True

    @contextmanager
    def _explaining_full_disk(self) -> Iterator[None]:
        try:
            yield
        except (lmdb.Error, OSError) as error:
            if not self._is_disk_full(error):
                raise
            raise InputError(
                f"{self._target}: the disk is full after {self.image_bytes:,} bytes of images; the earlier "
                f"file, if there was one, is untouched. Free some space or lower lmdb.short_side, then run "
                f"the stage again"
            ) from error

    def _is_disk_full(self, error: Exception) -> bool:
        if any(os.strerror(code) in str(error) for code in DISK_FULL):
            return True
        # LMDB calls a write that was cut short an input/output error.
        room = shutil.disk_usage(self._path.parent).free
        return os.strerror(errno.EIO) in str(error) and room < 2 * self._pending_bytes


def _prepare_all(
    images: Sequence[CaptionedImage], num_workers: int, form: StoreForm, hashed: bool
) -> Generator[_Prepared | SkippedImage, None, None]:
    """Yield results in the order of ``images``; never more than a few per worker are held in memory.

    With ``hashed`` they say the digests of the files' contents too.
    """
    pool = ThreadPoolExecutor(num_workers, "image-reader", initializer=cv2.setNumThreads, initargs=(0,))
    waiting: deque[Future[_Prepared | SkippedImage]] = deque()
    try:
        for image in images:
            waiting.append(pool.submit(_prepare, image, form, hashed))
            if len(waiting) >= num_workers * _PENDING_PER_WORKER:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _prepare(source: CaptionedImage, form: StoreForm, hashed: bool) -> _Prepared | SkippedImage:
    content = UNREAD if hashed else b""
    try:
        data = source.read_bytes()
        content = content and content_digest(data)
        if form.short_side is None and not form.decoded:
            verify(data)
            image = place_in_tar(source, data) if form.in_tars and source.member else data
            return _Prepared(source, image, False, content)
        pixels = decode(data)
    except (OSError, DecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return SkippedImage(source.image_id, source.dataset, source.place, reason, content)
    resized = False
    if form.short_side is not None and min(pixels.shape[:2]) > form.short_side:
        pixels, resized = resize_short_side(pixels, form.short_side), True
    if form.decoded:
        data = encode_ppm(pixels)
    elif resized:
        data = encode_jpeg(pixels, form.jpeg_quality)
    return _Prepared(source, data, resized, content)


def _bar(
    outcomes: Iterable[_Prepared | SkippedImage], name: str, total: int, shown: bool
) -> Iterable[_Prepared | SkippedImage]:
    seconds = 0.2 if sys.stderr.isatty() else 10.0  # a log keeps every state of the bar
    return tqdm(outcomes, name, total, unit=" images", mininterval=seconds, disable=not shown)


def _unreadable(image: SkippedImage) -> InputError:
    return InputError(
        f"{image.path}: cannot be read as an image: {image.reason} (image {image.image_id} of dataset "
        f"{image.dataset}); replace the file, or set lmdb.on_unreadable to skip to leave such images out"
    )
