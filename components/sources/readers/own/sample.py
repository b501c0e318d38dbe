"""An image of somebody's own data as its reader found it, and which split it belongs to."""

import hashlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from components.core.errors import InputError
from components.core.foreign_text import printable
from components.sources.image_files import UNDECODABLE, is_utf8
from components.sources.layout import Tally, without_halves
from components.sources.readers.types import ArchiveMember, RemoteTar

LONG_BYTES = 4192  # of a caption; SentencePiece's own limit, and more than any caption should have

BESIDE_ANOTHER = "images that cannot be decoded beside one of the same name"


@dataclass(slots=True)
class OwnImage:
    """One image and its captions so far.

    Attributes:
        key: the image's own id, unique in the dataset.
        where: its place in the data for messages, such as ``captions.csv: row 7``.
        path: of the image or of the archive that holds it; None while it is only a URL.
        url: where to fetch it; None for files.
        split: ``train``, ``val``, ``test`` (which is left out), or None where the data do not say.
        captions: as written, blank ones left out.
        member: the part of an archive.
        fault: why it cannot be got, if that is known already.
        tar: where the archive is if it is on a server.
    """

    key: str
    where: str
    path: Path | None
    url: str | None = None
    split: str | None = None
    captions: list[str] = field(default_factory=list)
    member: ArchiveMember | None = None
    fault: str | None = None
    tar: RemoteTar | None = None


@dataclass(frozen=True, slots=True)
class OwnSettings:
    """How own data are read; the same names are explained in params.yaml."""

    image_column: str = "image"
    caption_column: str = "caption"
    split_column: str = "split"
    val_fraction: float = 0.05
    seed: int = 0
    url_connections: int = 16


class OwnImages:
    """The images of a dataset so far: one file is one image, whatever names it goes by."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._by_identity: dict[Hashable, OwnImage] = {}

    def __len__(self) -> int:
        return len(self._by_identity)

    def __contains__(self, identity: Hashable) -> bool:
        return identity in self._by_identity

    def add(self, image: OwnImage, identity: Hashable) -> None:
        """Take an image, or its captions to those of the image that is the same.

        Args:
            image: with captions as written.
            identity: equal for what is the same image, such as a file's number on its disk.

        Raises:
            InputError: the same image is in another split already.
        """
        captions, image.captions = image.captions, []
        for caption in captions:
            self._add_caption(image, caption)
        first = self._by_identity.setdefault(identity, image)
        if first is image:
            return
        if first.split != image.split:
            alias = "" if first.key == image.key else f", as {printable(first.key)!r}"
            raise InputError(
                f"{image.where}: {image.key!r} is in {image.split or 'no split'} here and in "
                f"{first.split or 'no split'} in {first.where}{alias}; an image must be in one split"
            )
        if first.key != image.key:
            self._tally.note("further names of the same image", image.key)
            first.key = min(first.key, image.key)  # the same one in whatever order they come
        first.captions += image.captions

    def _add_caption(self, image: OwnImage, caption: str) -> None:
        whole = without_halves(caption)
        if whole != caption:
            self._tally.note("captions of which half a character is taken away", image.where)
            caption = whole
        if not caption.strip():
            self._tally.leave_out("blank captions", image.where)
            return
        if len(caption.encode()) > LONG_BYTES:
            self._tally.note(f"captions of more than {LONG_BYTES:,} bytes", image.where)
        image.captions.append(caption)

    def listed(self) -> list[OwnImage]:
        """All of them in their order; each whose name rules it out has its ``fault``.

        Raises:
            InputError: two images go by the same name.
        """
        by_key: dict[str, OwnImage] = {}
        for image in self._by_identity.values():
            if (first := by_key.setdefault(image.key, image)) is not image:
                raise InputError(f"{image.where}: {image.key!r} names another image in {first.where}; rename")
            image.fault = image.fault or _fault_of_name(image)
        return list(by_key.values())


def _fault_of_name(image: OwnImage) -> str | None:
    if not is_utf8(image.key) or (image.path is not None and not is_utf8(str(image.path))):
        return f"the name {printable(image.key)} is not UTF-8; rename it"
    name = image.member.name if image.member is not None else str(image.path or "")
    if name.lower().endswith(UNDECODABLE):
        return f"{name}: images of this kind cannot be decoded here; convert it to JPEG"
    return None


SPLIT_NAMES = ("train", "val", "test")
_SYNONYMS = {"training": "train", "validation": "val", "valid": "val", "dev": "val"}


def split_named(written: str) -> str | None:
    """Return the split that a word means, or None if it means none."""
    word = written.strip().lower()
    word = _SYNONYMS.get(word, word)
    return word if word in SPLIT_NAMES else None


def split_of_folder(relative: PurePath) -> str | None:
    """Return the split that the first folder of a path below the dataset is named after, if it is."""
    return split_named(relative.parts[0]) if len(relative.parts) > 1 else None


def split_of_shard(relative: PurePath) -> str | None:
    """Return the split of a file of many samples: its folder's, or the word that its name begins with."""
    return split_of_folder(relative) or split_named(relative.stem.partition("-")[0].partition("_")[0])


def divide(images: Sequence[OwnImage], settings: OwnSettings, name: str) -> dict[str, list[OwnImage]]:
    """Images by split, ``train`` and ``val``, in the order given; those for testing are left out.

    Where no image says its split, ``settings.val_fraction`` of them, at least one, are for validation:
    those whose ids, hashed with the seed, come first. So the order of the data does not matter, and
    images that are added later move few others.

    Raises:
        InputError: some images have a split and others not, or a split would be empty.
    """
    without = [image for image in images if image.split is None]
    if without and len(without) < len(images):
        raise InputError(
            f"{without[0].where}: no split, though others have one; give every image a split, or none"
        )
    if without:
        return _by_seed(images, settings, name)
    parts = {split: [image for image in images if image.split == split] for split in ("train", "val")}
    for split, part in parts.items():
        if not part:
            raise InputError(
                f"{name}: no image has the split `{split}`; training needs both train and val images. "
                "Without any splits, download.own_data.val_fraction decides"
            )
    return parts


def _by_seed(images: Sequence[OwnImage], settings: OwnSettings, name: str) -> dict[str, list[OwnImage]]:
    if len(images) < 2:
        raise InputError(f"{name}: one image; expected at least two, for training and for validation")
    num_val = min(max(round(len(images) * settings.val_fraction), 1), len(images) - 1)
    ranked = sorted(images, key=lambda image: _rank(settings.seed, image.key))
    chosen = {image.key for image in ranked[:num_val]}
    return {
        "train": [image for image in images if image.key not in chosen],
        "val": [image for image in images if image.key in chosen],
    }


def _rank(seed: int, key: str) -> bytes:
    return hashlib.sha256(f"{seed}:{key}".encode()).digest()
