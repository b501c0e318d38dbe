"""WebDataset shards: tar archives whose files of one key are one sample, ``0001.jpg`` with ``0001.txt``.

A key is all of a member's name up to the first dot of its last part. Captions are the lines of the
``.txt`` file, or else the caption column of the ``.json`` file, a text or a list of them. Images are
read where they lie in the archive, so it must not be compressed.
"""

import glob
import json
import tarfile
from pathlib import Path
from typing import IO, Any

from components.errors import InputError
from components.sources.archives.extract import members_of
from components.sources.captioned import ArchiveMember
from components.sources.own.sample import IMAGE_SUFFIXES, OwnImage, OwnSettings
from components.sources.own.splits import split_named, split_of_folder


def find_shards(path: Path) -> list[Path]:
    """The shards that a file, a folder (also its ``train/`` and ``val/``) or a pattern such as
    ``photos/*.tar`` names, sorted."""
    if path.is_dir():
        return sorted([*path.glob("*.tar"), *path.glob("*/*.tar")])
    if path.is_file():
        return [path] if path.suffix == ".tar" else []
    return sorted(Path(found) for found in glob.glob(str(path)) if found.endswith(".tar"))


def read_shards(shards: list[Path], root: Path, settings: OwnSettings) -> list[OwnImage]:
    """Images in the order of the shards.

    A shard's split is the folder it lies in (``train/``, ``val/``), or the word its name begins with
    (``train-0000.tar``); if neither says one, the seed decides.

    Args:
        shards: the archives.
        root: the folder that their paths are relative to.
        settings: names the caption column of JSON files.

    Raises:
        InputError: compressed, damaged, a key twice in a shard, or a caption is not a text.
    """
    images: list[OwnImage] = []
    for shard in shards:
        with shard.open("rb") as file:
            if not _looks_like_tar(file):
                raise InputError(f"{shard}: not an uncompressed tar archive; unpack .gz and the like first")
        try:
            with tarfile.open(shard, "r:") as tar:
                images.extend(_read_shard(tar, shard, root, settings))
        except (tarfile.TarError, EOFError) as error:
            raise InputError(f"{shard}: damaged ({error}); is it cut short?") from None
    return images


def _looks_like_tar(file: IO[bytes]) -> bool:
    return file.read(512)[257:262] == b"ustar"


def _read_shard(tar: tarfile.TarFile, shard: Path, root: Path, settings: OwnSettings) -> list[OwnImage]:
    relative = shard.relative_to(root)
    split = split_of_folder(relative) or _split_in_name(shard.stem)
    samples: dict[str, dict[str, Any]] = {}
    for member, source in members_of(tar):
        if source is None:
            continue
        folder, _, name = member.name.rpartition("/")
        stem, _, extension = name.partition(".")
        parts = samples.setdefault(f"{folder}/{stem}" if folder else stem, {})
        kind = "image" if f".{extension.lower()}" in IMAGE_SUFFIXES else extension.lower()
        if kind in parts:
            raise InputError(f"{shard}: {member.name}: the key {stem!r} has a second {kind}")
        if kind == "image":
            parts[kind] = ArchiveMember(member.name, member.offset_data, member.size)
        elif kind in ("txt", "json"):
            parts[kind] = source.read()
    return [
        OwnImage(
            key=f"{relative.with_suffix('').as_posix()}/{key}",
            where=f"{shard}: {key}",
            path=shard,
            split=split,
            captions=_captions(shard, key, parts, settings),
            member=parts["image"],
        )
        for key, parts in samples.items()
        if "image" in parts
    ]


def _split_in_name(stem: str) -> str | None:
    return split_named(stem.partition("-")[0].partition("_")[0])


def _captions(shard: Path, key: str, parts: dict[str, Any], settings: OwnSettings) -> list[str]:
    where = f"{shard}: {key}"
    try:
        if "txt" in parts:
            written: Any = parts["txt"].decode("utf-8").splitlines()
        elif "json" in parts:
            fields = json.loads(parts["json"])
            written = fields.get(settings.caption_column) if isinstance(fields, dict) else None
        else:
            written = []
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{where}: broken text ({error})") from None
    captions = written if isinstance(written, list) else [written]
    if not all(caption is None or isinstance(caption, str) for caption in captions):
        raise InputError(
            f"{where}.json, `{settings.caption_column}`: expected a text or a list, found {written!r}"
        )
    return [caption.strip() for caption in captions if caption and caption.strip()]
