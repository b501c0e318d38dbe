"""An image of somebody's own data, as its reader found it and before it belongs to a split."""

from dataclasses import dataclass, field
from pathlib import Path

from components.sources.captioned import ArchiveMember

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")


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
    """

    key: str
    where: str
    path: Path | None
    url: str | None = None
    split: str | None = None
    captions: list[str] = field(default_factory=list)
    member: ArchiveMember | None = None


@dataclass(frozen=True, slots=True)
class OwnSettings:
    """How own data are read; the same names are explained in params.yaml."""

    image_column: str = "image"
    caption_column: str = "caption"
    split_column: str = "split"
    val_fraction: float = 0.05
    seed: int = 0
    url_connections: int = 16
