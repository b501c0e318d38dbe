"""Image files that people name: found in folders, read, captioned, and where their words looked drawn."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from components.captioning.attention import draw_captions_attention
from components.captioning.captioner import Caption, Captioner
from components.core.errors import InputError
from components.data.image import DecodeError, decode
from components.data.transforms import EvalTransform
from components.sources.image_files import SUFFIXES, is_image, walk

_LONGEST_STEM = 200  # bytes; a file system allows 255 for the name, with endings and numbers
Writer = Callable[[Tensor], list[list[Caption]]]  # captions, best first, of each image of a batch


@dataclass(frozen=True, slots=True)
class CaptionedFile:
    """One file's captions, best first, or why there are none.

    Attributes:
        path: of the file.
        captions: empty if it is no image.
        error: why it could not be captioned.
        attention: the picture of where the first caption's words looked, if one was asked for.
    """

    path: Path
    captions: list[Caption]
    error: str | None = None
    attention: Path | None = None


def caption_files(
    captioner: Captioner,
    files: Sequence[Path],
    write: Writer,
    *,
    batch_size: int,
    num_threads: int,
    attention_dir: Path | None = None,
) -> Iterator[CaptionedFile]:
    """Caption files in order, each as soon as its batch is done.

    Args:
        captioner: whose images they become.
        files: of images; any other gets an error in its place.
        write: a method of ``captioner`` with its options.
        batch_size: images captioned at once.
        num_threads: that read files.
        attention_dir: where to draw attention to; None draws none.
    """
    pictures = _pictures(files, attention_dir) if attention_dir else {}
    for batch in read_photographs(files, captioner.transform, batch_size=batch_size, num_threads=num_threads):
        captions = write(batch.images) if batch.images is not None else []
        found = dict(zip(batch.readable, captions, strict=True))
        if pictures and batch.images is not None:
            first = [some[0] for some in captions]
            draw_captions_attention(
                captioner, batch.images, first, [pictures[path] for path in batch.readable]
            )
        for path in batch.paths:
            if path in found:
                yield CaptionedFile(path, found[path], attention=pictures.get(path))
            else:
                yield CaptionedFile(path, [], batch.errors[path])


def _pictures(files: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """Name a PNG in ``folder`` after each file; numbers distinguish files of one name.

    No picture replaces one of the files.
    """
    pictures: dict[Path, Path] = {}
    taken = {file.stem for file in files if file.resolve() == (folder / f"{file.stem}.png").resolve()}
    for file in files:
        stem = os.fsdecode(os.fsencode(file.stem)[:_LONGEST_STEM])
        name, number = stem, 1
        while name in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name)
        pictures[file] = folder / f"{name}.png"
    return pictures


@dataclass(frozen=True, slots=True)
class PhotographBatch:
    """Some files in order.

    Attributes:
        paths: all of them.
        images: of those that are images, ``(images, 3, crop, crop)``; None where none is.
        errors: why the others are not, by path.
    """

    paths: Sequence[Path]
    images: Tensor | None
    errors: dict[Path, str]

    @property
    def readable(self) -> list[Path]:
        """Files that ``images`` come from."""
        return [path for path in self.paths if path not in self.errors]


def find_photographs(places: Sequence[Path]) -> list[Path]:
    """List the files that ``places`` name, and those with an image's extension below the folders among them.

    They keep the order given, a folder's files that of their names; none appears twice. Hidden files and
    folders, and other companions, are skipped, and links to folders followed.

    Raises:
        InputError: if a place does not exist, or a folder has no image.
    """
    found: dict[Path, None] = {}
    for place in places:
        if place.is_dir():
            below = _below(place)
            if not below:
                raise InputError(f"{place}: no image in this folder (searched for {', '.join(SUFFIXES)})")
            found |= dict.fromkeys(below)
        elif place.exists():
            found[place] = None
        else:
            raise InputError(f"{place}: no such file or folder")
    return list(found)


def _below(folder: Path) -> list[Path]:
    return [Path(parent, name) for parent, names in walk(folder) for name in names if is_image(name)]


def read_photographs(
    paths: Sequence[Path], transform: EvalTransform, *, batch_size: int, num_threads: int
) -> Iterator[PhotographBatch]:
    """Read all files, ``batch_size`` at a time; one that is no image gets an error and stops nothing."""
    with ThreadPoolExecutor(num_threads) as pool:
        for start in range(0, len(paths), batch_size):
            some = paths[start : start + batch_size]
            results = list(pool.map(lambda path: _read(path, transform), some))
            images = [result for result in results if isinstance(result, Tensor)]
            errors = {p: result for p, result in zip(some, results, strict=True) if isinstance(result, str)}
            yield PhotographBatch(some, torch.stack(images) if images else None, errors)


def _read(path: Path, transform: EvalTransform) -> Tensor | str:
    try:
        return transform(decode(path.read_bytes()))
    except DecodeError as error:
        return f"not an image that can be read ({error})"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
