"""Building a split in shards (components.data.shards): the head, and the shards that are not up to date."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Literal

import numpy as np

from components.core.errors import InputError
from components.core.files import writing
from components.data.build import BuildReport, StoreWriter, build_store, known_of
from components.data.record import HeadFacts
from components.data.shards import (
    ASSIGNED_KEY,
    UNREAD,
    SourcesDigest,
    assign,
    content_digest,
    known_digest,
    shard_path,
)
from components.data.store import CaptionStore
from components.sources.readers.types import CaptionedImage


def build_head(
    path: Path,
    images: Sequence[CaptionedImage],
    num_shards: int,
    *,
    short_side: int | None,
    jpeg_quality: int,
    categories: Sequence[str] = (),
) -> None:
    """Write the head of ``images`` in ``num_shards`` shards to ``path``.

    Arguments are as of `build_store`, whose shards may exist or not.

    Raises:
        InputError: a shard would have no image, or the disk is full.
    """
    assigned = assign((image.image_id for image in images), num_shards)
    empty = np.flatnonzero(np.bincount(assigned, minlength=num_shards) == 0)
    if len(empty):
        raise InputError(
            f"{path}: none of the {len(images)} images falls into shard {empty[0]} of {num_shards}; "
            "lower lmdb.shards"
        )
    members = [np.flatnonzero(assigned == number).tolist() for number in range(num_shards)]
    known = tuple(known_digest(known_of(images[place]) for place in places) for places in members)
    with writing(path) as temporary, closing(StoreWriter(temporary, path)) as writer:
        writer.put(ASSIGNED_KEY, assigned.astype("<u2").tobytes())
        for image in images:
            writer.index(image)
        writer.finish(0, short_side, jpeg_quality, categories, HeadFacts(known))


def build_shard(
    head: Path,
    images: Sequence[CaptionedImage],
    number: int,
    num_shards: int,
    *,
    short_side: int | None,
    jpeg_quality: int,
    on_unreadable: Literal["refuse", "skip"],
    num_workers: int,
    decoded: bool = False,
    categories: Sequence[str] = (),
    progress: bool = False,
) -> BuildReport | None:
    """Write one shard of ``images`` beside ``head``; leave it alone if it holds just that, and return None.

    Other arguments are as of `build_store`, which says what a failure leaves.
    """
    assigned = assign((image.image_id for image in images), num_shards)
    own = [images[place] for place in np.flatnonzero(assigned == number).tolist()]
    path = shard_path(head, number)
    sources = SourcesDigest(short_side, jpeg_quality, decoded, categories)
    if _is_current(path, own, (number, num_shards), sources, on_unreadable, num_workers):
        return None
    return build_store(
        path,
        own,
        short_side=short_side,
        jpeg_quality=jpeg_quality,
        on_unreadable=on_unreadable,
        num_workers=num_workers,
        decoded=decoded,
        categories=categories,
        shard=(number, num_shards),
        progress=progress,
    )


def _is_current(
    path: Path,
    images: Sequence[CaptionedImage],
    place: tuple[int, int],
    sources: SourcesDigest,
    on_unreadable: Literal["refuse", "skip"],
    num_workers: int,
) -> bool:
    """Return whether the shard at ``path`` is whole and made of these images; reads them if need be."""
    try:
        facts = CaptionStore(path).metadata.shard
    except InputError:  # none there, or none that can be read
        return False
    if (
        facts is None
        or (facts.number, facts.of) != place
        or facts.known != known_digest(map(known_of, images))
    ):
        return False
    if facts.left_out and on_unreadable == "refuse":
        return False
    with ThreadPoolExecutor(num_workers, "image-reader") as pool:
        for image, content in zip(images, pool.map(_content, images), strict=True):
            sources.add(known_of(image), content)
    return facts.sources == sources.hexdigest()


def _content(image: CaptionedImage) -> bytes:
    try:
        return content_digest(image.read_bytes())
    except OSError:
        return UNREAD
