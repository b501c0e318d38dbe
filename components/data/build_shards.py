"""Building a split in shards (components.data.shards): the head, and the shards that are not up to date."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np

from components.core.errors import InputError
from components.core.files import writing
from components.data.build import BuildReport, StoreWriter, build_store, known_of
from components.data.record import HeadFacts, StoreForm
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


def build_head(path: Path, images: Sequence[CaptionedImage], num_shards: int, form: StoreForm) -> None:
    """Write the head of ``images`` in ``num_shards`` shards to ``path``.

    The shards may exist or not.

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
        writer.finish(form, facts=HeadFacts(known))


def build_shard(
    head: Path,
    images: Sequence[CaptionedImage],
    number: int,
    num_shards: int,
    form: StoreForm,
    *,
    num_workers: int,
    progress: bool = False,
) -> BuildReport | None:
    """Write one shard of ``images`` beside ``head``; leave it alone if it holds just that, and return None.

    Other arguments are as of `build_store`, which says what a failure leaves.
    """
    assigned = assign((image.image_id for image in images), num_shards)
    own = [images[place] for place in np.flatnonzero(assigned == number).tolist()]
    path = shard_path(head, number)
    shard = (number, num_shards)
    if _is_current(path, own, shard, form, num_workers):
        return None
    return build_store(path, own, form, num_workers=num_workers, shard=shard, progress=progress)


def _is_current(
    path: Path,
    images: Sequence[CaptionedImage],
    place: tuple[int, int],
    form: StoreForm,
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
    if facts.left_out and form.on_unreadable == "refuse":
        return False
    sources = SourcesDigest(form)
    with ThreadPoolExecutor(num_workers, "image-reader") as pool:
        for image, content in zip(images, pool.map(_content, images), strict=True):
            sources.add(known_of(image), content)
    return facts.sources == sources.hexdigest()


def _content(image: CaptionedImage) -> bytes:
    try:
        return content_digest(image.read_bytes())
    except OSError:
        return UNREAD
