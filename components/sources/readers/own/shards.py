"""WebDataset shards: tar archives whose files of one key are one sample, ``0001.jpg`` with ``0001.txt``.

A key is a member's name without its last ending. Captions are the lines of the ``.txt`` file, or else the
caption column of the ``.json`` file, a text or a list of them. Images are read where they lie in the
archive, so it must not be compressed.
"""

import glob
import json
import os
import tarfile
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from components.core.errors import InputError
from components.core.foreign_text import printable
from components.sources.download.extract import Header, members_of, read_to_end
from components.sources.image_files import UNDECODABLE, Listing, folded, has_companion, is_companion, is_image
from components.sources.layout import Tally, shown
from components.sources.readers.own.image_places import identity_of
from components.sources.readers.own.sample import (
    BESIDE_ANOTHER,
    OwnImage,
    OwnImages,
    OwnSettings,
    split_of_shard,
)
from components.sources.readers.types import ArchiveMember, RemoteTar


class _TwiceError(Exception):
    """A sample has two files of one kind."""


@dataclass(slots=True)
class Sample:
    """The files of one key, as far as they are wanted."""

    image: ArchiveMember | None = None
    txt: bytes | None = None
    json: bytes | None = None

    def take_image(self, image: ArchiveMember) -> ArchiveMember | None:
        """Keep the image, of two the one that can be decoded, and return the other."""
        if self.image is None:
            self.image = image
            return None
        undecodable = [one.name.lower().endswith(UNDECODABLE) for one in (self.image, image)]
        if undecodable[0] == undecodable[1]:
            raise _TwiceError
        given_up = self.image if undecodable[0] else image
        self.image = image if undecodable[0] else self.image
        return given_up

    def take_text(self, kind: str, text: bytes) -> None:
        """Keep the bytes of a ``txt`` or ``json`` file."""
        if getattr(self, kind) is not None:
            raise _TwiceError
        setattr(self, kind, text)


def find_shards(path: Path, listing: Listing) -> list[Path]:
    """Return, sorted, the shards that a file, a folder or a pattern such as ``photos/*.tar`` names.

    ``listing`` says what is below the folder.
    """
    if path.is_dir():
        found = [folder / name for folder, names in listing for name in names]
    elif path.is_file():
        found = [path]
    else:
        found = [Path(name) for name in glob.glob(str(path)) if not is_companion(os.path.basename(name))]
    return sorted(shard for shard in found if shard.suffix.lower() == ".tar")


def read_shards(
    shards: list[Path], root: Path, settings: OwnSettings, images: OwnImages, tally: Tally
) -> None:
    """Add the images in the order of the shards.

    A shard's split is the folder it lies in (``train/``, ``val/``), or the word its name begins with
    (``train-0000.tar``); if neither says one, the seed decides.

    Args:
        shards: the archives.
        root: the folder that their paths are relative to.
        settings: names the caption column of JSON files.
        images: where they go.
        tally: is told of what is left out.

    Raises:
        InputError: compressed, without members, damaged or cut short, a key twice in a shard, or a caption
            is not a text.
    """
    for shard in shards:
        if (identity := identity_of(shard)) is None:
            raise InputError(f"{shard}: no such file; a link that leads nowhere?")
        with shard.open("rb") as file:
            samples = read_shard(file, str(shard), tally)
        add_shard(samples, str(shard), shard.relative_to(root), shard, identity, settings, images, tally)


def read_shard(file: IO[bytes], shard: str, tally: Tally) -> dict[str, Sample]:
    """Return the samples of an opened shard by key; ``shard`` names it in messages.

    Raises:
        InputError: as `read_shards`.
    """
    start = file.read(512)
    if not start.strip(b"\0"):
        raise InputError(
            f"{shard}: empty, or nothing but zeros: an archive without members; make it again or take it away"
        )
    if start[257:262] != b"ustar":
        raise InputError(f"{shard}: not an uncompressed tar archive; unpack .gz and the like first")
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r:", tarinfo=Header) as tar:
            samples = _members(tar, shard, tally)
            read_to_end(tar)
    except (tarfile.TarError, EOFError) as error:
        raise InputError(f"{shard}: damaged ({error}); is it cut short?") from None
    return samples


def _members(tar: tarfile.TarFile, shard: str, tally: Tally) -> dict[str, Sample]:
    samples: dict[str, Sample] = {}
    for member, source in members_of(tar):
        name, place = PurePosixPath(member.name), f"{shard}: {member.name}"
        if has_companion(name):
            tally.leave_out("hidden or companion files and folders", place)
        elif source is None:
            if not member.isdir():
                tally.leave_out("links and devices in archives", place)
        else:
            kind = "image" if is_image(name.name) else name.suffix.lower().removeprefix(".")
            if kind not in ("image", "txt", "json"):
                tally.leave_out("files that are neither images nor texts", place)
                continue
            sample = samples.setdefault(name.with_suffix("").as_posix(), Sample())
            try:
                if kind != "image":
                    sample.take_text(kind, source.read())
                elif other := sample.take_image(ArchiveMember(member.name, member.offset_data, member.size)):
                    tally.leave_out(BESIDE_ANOTHER, f"{shard}: {other.name}")
            except _TwiceError:
                raise InputError(
                    f"{shard}: {member.name}: the key {name.stem!r} has a second {kind}"
                ) from None
    _pair_loosely(samples)
    return samples


def _pair_loosely(samples: dict[str, Sample]) -> None:
    """Give texts without an image to images whose names differ in case or normal form alone."""
    alone = {folded(key): key for key, sample in samples.items() if sample.image is None}
    for key, sample in samples.items():
        if sample.image is not None and sample.txt is None and sample.json is None and folded(key) in alone:
            other = samples[alone.pop(folded(key))]
            sample.txt, sample.json, other.txt, other.json = other.txt, other.json, None, None


def add_shard(
    samples: dict[str, Sample], shard: str, relative: Path, path: Path, identity: tuple[Hashable, ...],
    settings: OwnSettings, images: OwnImages, tally: Tally, remote: RemoteTar | None = None,
) -> None:  # fmt: skip
    """Add the images of a shard.

    Args:
        samples: by key.
        shard: its name in messages.
        relative: its place below the folder of the shards.
        path: what its images have as theirs.
        identity: equal for what is the same shard.
        settings: names the caption column of JSON files.
        images: where they go.
        tally: is told of what is left out.
        remote: the shard, if it is on a server.
    """
    split = split_of_shard(relative)
    for key, sample in samples.items():
        where = f"{shard}: {key}"
        if sample.image is None:
            if sample.txt is None and sample.json is None:
                continue  # given to the image of nearly the same name
            tally.leave_out("texts without an image", where)
            continue
        image = OwnImage(
            key=f"{relative.with_suffix('').as_posix()}/{key}",
            where=printable(where),
            path=path,
            split=split,
            captions=_captions(where, sample, settings),
            member=sample.image,
            tar=remote,
        )
        images.add(image, (*identity, sample.image.offset))


def _captions(where: str, sample: Sample, settings: OwnSettings) -> list[str]:
    try:
        if sample.txt is not None:
            lines = sample.txt.decode("utf-8-sig").splitlines()
            written: Any = [line for line in lines if line.strip()]
        elif sample.json is not None:
            fields = json.loads(sample.json.decode("utf-8-sig"))
            written = fields.get(settings.caption_column) if isinstance(fields, dict) else None
        else:
            written = []
    except (ValueError, RecursionError) as error:
        raise InputError(f"{printable(where)}: broken text ({error})") from None
    captions = written if isinstance(written, list) else [written]
    if not all(caption is None or isinstance(caption, str) for caption in captions):
        raise InputError(
            f"{printable(where)}.json, `{settings.caption_column}`: expected a text or a list, "
            f"found {shown(written)}"
        )
    return [caption.strip() for caption in captions if caption is not None]
