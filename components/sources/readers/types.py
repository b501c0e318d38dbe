"""What readers hand on: images with captions, images with a class each, and whole datasets, verified."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ArchiveMember:
    """A file inside an uncompressed archive: ``size`` bytes from ``offset`` on, called ``name`` there."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class RemoteTar:
    """A tar on a server as the stage ``datasets`` has read it: its URL, size in bytes and SHA-256."""

    url: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class CaptionedImage:
    """An image file and what people wrote about it.

    Attributes:
        image_id: unique over all datasets of a run: ``<dataset>/<the dataset's own id>``.
        dataset: the name the dataset has in params.yaml, such as ``coco``.
        path: the encoded image on disk, or the archive that holds it.
        captions: at least one, as written (not normalised).
        labels: of the objects it shows, from 1, rising; see components.sources.readers.coco.
        member: which part of ``path`` the image is; None for all of it.
        tar: where the archive is if it is on a server, and ``path`` then its name among others there.
    """

    image_id: str
    dataset: str
    path: Path
    captions: tuple[str, ...]
    labels: tuple[int, ...] = ()
    member: ArchiveMember | None = None
    tar: RemoteTar | None = None

    @property
    def place(self) -> Path:
        """Where it is, for people: its file, or the archive and its name inside."""
        return self.path if self.member is None else self.path / self.member.name

    def read_bytes(self) -> bytes:
        """Return the encoded image. Raises OSError; an archive that was cut short gives fewer bytes.

        Raises:
            InputError: its archive is on a server, and cannot be fetched.
        """
        if self.member is None:
            return self.path.read_bytes()
        if self.tar is not None:
            from components.sources.download.tar_cache import (
                machine_cache,  # which what is on this disk does not need
            )

            return machine_cache().read(self.tar, self.member.offset, self.member.size)
        with self.path.open("rb") as file:
            file.seek(self.member.offset)
            return file.read(self.member.size)


@dataclass(frozen=True, slots=True)
class ClassifiedImages:
    """One split of a single-label dataset.

    Attributes:
        image_paths: in a fixed order.
        classes: names, by class index.
        labels: int64 ``(num_images,)``, indices into ``classes``.
        upright: whether pictures are turned as their EXIF orientation says (components.data.image).
    """

    image_paths: list[Path]
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    upright: bool = True

    def chosen(self, indices: NDArray[np.int64]) -> "ClassifiedImages":
        """Return some of the images."""
        paths = [self.image_paths[index] for index in indices]
        return replace(self, image_paths=paths, labels=self.labels[indices])


@dataclass(frozen=True, slots=True)
class DatasetFolders:
    """Roots of a run's datasets in their published layouts; see the reader of each for what it expects.

    Attributes:
        captions: to pretrain on, by name; other forms too, see components.sources.readers.own.dataset.
        benchmarks: by name, see ``components.sources.origins.READERS``.
        tars: captioned datasets on servers: URLs by name.
    """

    captions: Mapping[str, Path]
    benchmarks: Mapping[str, Path] = field(default_factory=dict)
    tars: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verified:
    """A dataset that was read whole, and found as it should be.

    Attributes:
        annotations: files that say what is in the images.
        files: by split, the images and whatever else lies in one file per image.
        figures: counts by split, ``images`` among them.
        images_root: the folder that ``files`` are named relative to, where it is not the dataset's own.
    """

    annotations: list[Path]
    files: Mapping[str, Collection[Path]]
    figures: dict[str, dict[str, Any]]
    images_root: Path | None = None


def verified_classes(splits: Mapping[str, ClassifiedImages], annotations: list[Path]) -> Verified:
    """Describe the splits of a dataset whose images have a class each."""
    figures = {
        split: {"images": len(images.image_paths), "classes": len(images.classes)}
        for split, images in splits.items()
    }
    return Verified(annotations, {split: images.image_paths for split, images in splits.items()}, figures)
