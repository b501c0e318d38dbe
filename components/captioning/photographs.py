"""Image files that people name: found in folders, read one by one, those that are none told apart."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from components.core.errors import InputError
from components.core.image_files import SUFFIXES, is_image, walk
from components.data.image import DecodeError, decode
from components.data.transforms import EvalTransform


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
        """The files that ``images`` come from."""
        return [path for path in self.paths if path not in self.errors]


def find_photographs(places: Sequence[Path]) -> list[Path]:
    """The files that ``places`` name, and those of an image's extension below the folders among them.

    In the order given, a folder's files by name; none twice. Hidden files and folders, and other companions,
    are passed over, and links to folders followed.

    Raises:
        InputError: if a place does not exist, or a folder has no image.
    """
    found: dict[Path, None] = {}
    for place in places:
        if place.is_dir():
            below = _below(place)
            if not below:
                raise InputError(f"{place}: no image in this folder (looked for {', '.join(SUFFIXES)})")
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
    """Read all files, ``batch_size`` at a time; one that is no image is told apart and stops nothing."""
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
