"""A split of own data as every later stage reads it: ``<split>.jsonl``, an image with its captions per line.

Whatever form the data had, it ends here, below data/datasets and so tracked by DVC. Keys of a line:
``id``; ``path``, relative to the dataset's root; ``captions``; and for an image inside an archive
``member``: its name there, offset and size in bytes. ``fetched`` says that the path is relative to the
index's own folder instead, where the images that came from URLs, or from inside tables, lie in an archive.
``tar`` is the number of a tar on a server in ``<split>.tars.json``, a list of URL, size in bytes and SHA-256.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from components.core.errors import InputError
from components.core.files import parse_json, read_json, remove, write_json, writing
from components.sources.readers.types import ArchiveMember, CaptionedImage, RemoteTar


def index_path(folder: Path, split: str) -> Path:
    """Path of a split's index."""
    return folder / f"{split}.jsonl"


def write_index(folder: Path, split: str, root: Path, images: Iterable[CaptionedImage]) -> None:
    """Write it, atomically; images below ``folder`` count as fetched."""
    tars: dict[RemoteTar, int] = {}
    with writing(index_path(folder, split)) as temporary, temporary.open("w", encoding="utf-8") as file:
        for image in images:
            file.write(json.dumps(_line(folder, root, image, tars), ensure_ascii=False) + "\n")
    remove(_tars_path(folder, split))
    if tars:
        write_json(_tars_path(folder, split), [[tar.url, tar.size, tar.sha256] for tar in tars])


def _tars_path(folder: Path, split: str) -> Path:
    return folder / f"{split}.tars.json"


def _line(folder: Path, root: Path, image: CaptionedImage, tars: dict[RemoteTar, int]) -> dict[str, object]:
    fetched = image.path.is_relative_to(folder)
    base = folder if fetched else root
    path = image.path.relative_to(base) if image.path.is_relative_to(base) else image.path.absolute()
    line: dict[str, object] = {"id": image.image_id.partition("/")[2], "path": path.as_posix()}
    if fetched:
        line["fetched"] = True
    if image.member is not None:
        line["member"] = [image.member.name, image.member.offset, image.member.size]
    if image.tar is not None:
        line["tar"] = tars.setdefault(image.tar, len(tars))
    return {**line, "captions": list(image.captions)}


def read_index(folder: Path, split: str, root: Path, dataset: str) -> list[CaptionedImage]:
    """Images in the order of the index.

    Raises:
        InputError: it is missing or broken.
    """
    path = index_path(folder, split)
    images = []
    try:
        listed = _tars_path(folder, split)
        tars = [RemoteTar(*of) for of in read_json(listed)] if listed.exists() else []
        with path.open(encoding="utf-8") as file:
            for line in file:
                fields = parse_json(line)
                base = folder if fields.get("fetched") else root
                member = fields.get("member")
                images.append(
                    CaptionedImage(
                        image_id=f"{dataset}/{fields['id']}",
                        dataset=dataset,
                        path=base / fields["path"],
                        captions=tuple(fields["captions"]),
                        member=None if member is None else ArchiveMember(*member),
                        tar=tars[fields["tar"]] if "tar" in fields else None,
                    )
                )
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(f"{path}: missing or broken ({error}); run `dvc repro -f datasets`") from None
    return images
