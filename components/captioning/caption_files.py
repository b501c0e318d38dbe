"""Captions of image files, and pictures of where their words looked."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from components.captioning.attention import seen_words
from components.captioning.attention_picture import draw_attention
from components.captioning.captioner import Caption, Captioner
from components.captioning.photographs import read_photographs

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
        files: of images; what is none gets an error in its place.
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
            _draw(captioner, batch.images, first, [pictures[path] for path in batch.readable])
        for path in batch.paths:
            if path in found:
                yield CaptionedFile(path, found[path], attention=pictures.get(path))
            else:
                yield CaptionedFile(path, [], batch.errors[path])


def _draw(
    captioner: Captioner, images: Tensor, captions: Sequence[Caption], pictures: Sequence[Path]
) -> None:
    maps = captioner.attention(images, captions)
    for picture, image, caption, attention in zip(pictures, images, captions, maps, strict=True):
        draw_attention(picture, image, caption, seen_words(caption, attention, captioner.tokenizer))


def _pictures(files: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """A PNG in ``folder`` for each file, named after it; numbers tell files of one name apart.

    None takes the place of one of the files.
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
