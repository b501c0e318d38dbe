"""Images of a table that are URLs: fetched, and laid into one archive that DVC can track."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from components.core import paths
from components.core.errors import InputError
from components.sources.download.fetch.images import fetch_images, fetched_path
from components.sources.readers.own.packed import PackedImages
from components.sources.readers.own.sample import OwnImage

ARCHIVE_NAME = "fetched.tar"
_NUM_NAMED = 3


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An image that a table names and nobody could get: its place in the table, and the reason."""

    where: str
    image: str
    reason: str


def fetch_urls(
    images: Sequence[OwnImage], dataset: str, folder: Path, connections: int, skip: bool
) -> tuple[list[OwnImage], list[LeftOut]]:
    """Give every image that is a URL its place in ``folder``/fetched.tar; the others stay as they are.

    What has been fetched stays in datasets/incoming until the archive is whole, so that an interrupted
    call, or one that refused, goes on where it ended.

    Args:
        images: of one dataset.
        dataset: its name.
        folder: where the archive goes.
        connections: at a time.
        skip: leave out what cannot be fetched, rather than to refuse.

    Raises:
        InputError: images could not be fetched and are refused, or not one could.
    """
    urls = [image.url for image in images if image.url is not None]
    if not urls:
        return list(images), []
    incoming = paths.INCOMING_DIR / "images" / dataset
    failures = fetch_images(urls, incoming, connections)
    left_out = [LeftOut(i.where, i.key, failures[i.url]) for i in images if i.url in failures]
    if left_out and (not skip or len(left_out) == len(urls)):
        raise InputError(_refusal(left_out, len(urls)))
    kept = [image for image in images if image.url not in failures]
    with PackedImages(folder / ARCHIVE_NAME) as packed:
        for image in kept:
            if image.url is not None:
                path = fetched_path(incoming, image.url)
                with path.open("rb") as file:
                    image.member = packed.copy(file, path.stat().st_size, image.url.partition("?")[0])
                image.path = packed.archive
    return kept, left_out


def forget_fetched(dataset: str) -> None:
    """Remove the loose files, once their archive is where it belongs."""
    shutil.rmtree(paths.INCOMING_DIR / "images" / dataset, ignore_errors=True)


def _refusal(left_out: Sequence[LeftOut], num_urls: int) -> str:
    named = "\n".join(f"  {one.where}: {one.image}: {one.reason}" for one in left_out[:_NUM_NAMED])
    more = "\n  ..." if len(left_out) > _NUM_NAMED else ""
    return (
        f"{len(left_out)} of {num_urls} images could not be fetched:\n{named}{more}\nStart again to go on "
        "with the rest, mend the table, or set lmdb.on_unreadable to skip to leave such images out"
    )
