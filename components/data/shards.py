"""A split in shards: into which an image falls, and where the records are that are read as one store.

``lmdb.shards`` deals the training images out to stores of their own, ``train-0.lmdb`` and so on, by
`shard_of` of the image's id alone: an image that is added, changed or taken away concerns one shard. What
is called ``train.lmdb`` is then the head, which holds no image but says how the shards are one store:

- the index (components.data.record) of all images, in the order that one store would have,
- under the key ``__assigned__`` the shard of each, unsigned 16-bit little-endian integers,
- metadata with ``head: {known}``, a digest for each shard of what is known of the images that fall into it.

A shard is a store with the records that fall into it, in the same order, and metadata with ``shard:
{number, of, known, sources, records, datasets, left_out}``. It needs no other shard to be built, nor does
the head: which images turned out to be unreadable only their shard knows.
"""

import hashlib
import importlib.metadata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.core.errors import InputError
from components.data.record import Metadata, ShardFacts, StoreForm, StoreIndex

UNREAD = b"unread"  # in the place of the digest of a file that cannot be read
ASSIGNED_KEY = b"__assigned__"
_CODE = ("any_format.py", "build.py", "image.py", "record.py", "shards.py")  # what makes a shard's bytes
# Whose versions decide the bytes of images that are resized or kept as pixels. A file's own bytes they only
# verify, so that an upgrade of theirs must not have such shards built, and sent, again.
_LIBRARIES = ("opencv-python-headless", "pillow", "simplejpeg", "torch")


def shard_of(image_id: str, num_shards: int) -> int:
    """Return the shard of an image: the first 8 bytes of its id's SHA-256, big-endian, modulo the shards."""
    digest = hashlib.sha256(image_id.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") % num_shards


def assign(ids: Iterable[str], num_shards: int) -> NDArray[np.uint16]:
    """Return the shard of each image."""
    return np.array([shard_of(image_id, num_shards) for image_id in ids], np.uint16)


def shard_path(head: Path, number: int) -> Path:
    """Return the path of a shard beside its head."""
    return head.with_name(f"{head.stem}-{number}{head.suffix}")


def remove_shards(head: Path, first: int) -> None:
    """Remove the shards beside ``head`` from number ``first`` on."""
    for path in head.parent.glob(f"{head.stem}-*{head.suffix}"):
        number = path.stem.removeprefix(f"{head.stem}-")
        if number.isdecimal() and int(number) >= first:
            path.unlink()


def known_digest(known: Iterable[object]) -> str:
    """Return the digest of what is known of images (`build.known_of`), in order."""
    digest = hashlib.sha256()
    for of_image in known:
        digest.update(repr(of_image).encode())
    return digest.hexdigest()


def content_digest(data: bytes) -> bytes:
    """Return the digest of a file's bytes."""
    return hashlib.sha256(data).digest()


class SourcesDigest:
    """Of all that a shard's bytes are made from: form, code, libraries, and what is known of each image."""

    def __init__(self, form: StoreForm) -> None:
        kept = (form.short_side, form.jpeg_quality, form.decoded, form.categories)
        self._digest = hashlib.sha256(repr(kept).encode())
        for name in _CODE:
            self._digest.update(Path(__file__).with_name(name).read_bytes())
        if form.short_side is not None or form.decoded:
            self._digest.update(repr(list(map(importlib.metadata.version, _LIBRARIES))).encode())

    def add(self, known: object, content: bytes) -> None:
        """Add what is known of an image, and the `content_digest` of its file, or `UNREAD`."""
        self._digest.update(repr((known, content)).encode())

    def hexdigest(self) -> str:
        """Return the digest of all that was added so far."""
        return self._digest.hexdigest()


@dataclass(frozen=True, slots=True)
class ShardedStore:
    """What a head and the metadata of all its shards say together.

    Attributes:
        metadata: as that of one store; ``shard`` and ``head`` are None.
        shards: number of the shard of each record.
        places: index of each record in its shard.
        kept: of the images that the head names, whether a record was made of it.
        num_shards: how many there are.
        datasets: of all images.
        digest: of everything.
    """

    metadata: Metadata
    shards: NDArray[np.uint16]
    places: NDArray[np.int64]
    kept: NDArray[np.bool_]
    num_shards: int
    datasets: tuple[str, ...]
    digest: str

    @classmethod
    def join(
        cls, path: Path, head: Metadata, assigned: NDArray[np.uint16], shards: Sequence[Metadata]
    ) -> "ShardedStore":
        """Join the head at ``path`` and its shards, in order, which `facts_of` has looked at."""
        kept = np.ones(len(assigned), np.bool_)
        places = np.zeros(len(assigned), np.int64)
        for number, shard in enumerate(shards):
            facts = facts_of(path, head, number, shard)
            positions = np.flatnonzero(assigned == number)
            own = np.ones(len(positions), np.bool_)
            own[list(facts.left_out)] = False
            kept[positions] = own
            places[positions] = np.cumsum(own) - 1
        metadata = replace(
            head,
            count=int(kept.sum()),
            captions=sum(shard.captions for shard in shards),
            image_bytes=sum(shard.image_bytes for shard in shards),
            skipped=sum(shard.skipped for shard in shards),
            head=None,
        )
        datasets = {name for shard in shards if shard.shard for name in shard.shard.datasets}
        # But for the sources: the same records made by other code are the same data.
        contents = [replace(of, shard=of.shard and replace(of.shard, sources="")) for of in shards]
        digest = hashlib.sha256(repr((head, contents)).encode())
        digest.update(assigned.tobytes())
        names = tuple(sorted(datasets))
        return cls(metadata, assigned[kept], places[kept], kept, len(shards), names, digest.hexdigest())

    def groups(self, num_groups: int) -> NDArray[np.uint16]:
        """Return the group of each record, see `shards_of_groups`."""
        return self.shards // np.uint16(self.num_shards // num_groups)

    def index(self, of_all: StoreIndex) -> StoreIndex:
        """Return the part of the head's index that records were made of."""
        if self.kept.all():
            return of_all
        kept = np.flatnonzero(self.kept).tolist()
        return StoreIndex(
            tuple(of_all.num_captions[position] for position in kept),
            tuple(of_all.labels[position] for position in kept),
        )


def facts_of(path: Path, head: Metadata, number: int, shard: Metadata) -> ShardFacts:
    """Return what a shard says about itself, once it is sure to be one of the head at ``path``.

    Raises:
        InputError: it is of other images or captions, of another number of shards, or kept in another form.
    """
    assert head.head is not None
    facts, of = shard.shard, len(head.head.known)
    if facts is None or (facts.number, facts.of) != (number, of):
        found = "a whole split" if facts is None else f"shard {facts.number} of {facts.of}"
        reason = f"{found}, where {path} expects shard {number} of {of}"
    elif facts.known != head.head.known[number]:
        reason = f"holds other images, captions or labels than {path} expects"
    elif (shard.short_side, shard.jpeg_quality, shard.categories) != (
        head.short_side, head.jpeg_quality, head.categories,
    ):  # fmt: skip
        reason = f"its images are kept in another form, or with other categories, than {path} says"
    else:
        return facts
    raise InputError(
        f"{shard_path(path, number)}: {reason}; make both again (`virtex run lmdb lmdb_shard`), or "
        "fetch those that belong together with `dvc pull`"
    )


def shards_of_groups(groups: range, num_groups: int, num_shards: int) -> range:
    """Return the shards of some of ``num_groups`` groups, each of which has as many, side by side."""
    each = num_shards // num_groups
    return range(groups.start * each, groups.stop * each)
