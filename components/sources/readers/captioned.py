"""One image with its captions and labels, as every source of captioned images hands them on."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ArchiveMember:
    """A file inside an uncompressed archive: ``size`` bytes from ``offset`` on, called ``name`` there."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class CaptionedImage:
    """An image file and what people wrote about it.

    Attributes:
        image_id: unique over all datasets of a run: ``<dataset>/<the dataset's own id>``.
        dataset: the name the dataset has in params.yaml, such as ``coco``.
        path: the encoded image on disk, or the archive that holds it.
        captions: at least one, as written (not normalised).
        labels: of the objects it shows, from 1, rising; see components.sources.readers.object_labels.
        member: which part of ``path`` the image is; None for all of it.
    """

    image_id: str
    dataset: str
    path: Path
    captions: tuple[str, ...]
    labels: tuple[int, ...] = ()
    member: ArchiveMember | None = None

    @property
    def place(self) -> Path:
        """Where it is, for people: its file, or the archive and its name inside."""
        return self.path if self.member is None else self.path / self.member.name

    def read_bytes(self) -> bytes:
        """The encoded image. Raises OSError; an archive that was cut short gives fewer bytes."""
        if self.member is None:
            return self.path.read_bytes()
        with self.path.open("rb") as file:
            file.seek(self.member.offset)
            return file.read(self.member.size)
