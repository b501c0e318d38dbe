"""Training images that stay in their tars: a store holds their places, and they are read from there.

In the place of an image a record then has ``virtex-tar`` and a JSON list after a new line: offset and size in
bytes of the image, and where its tar is: a path on this machine, or URL, size and SHA-256. Tars of a server
come through components.sources.download.tar_cache. All else, the order of the images and how a run goes on,
is the store's; components.data.tar_visits can have another order, one that needs few tars at a time.
"""

import json
from typing import NamedTuple

from components.core.errors import InputError
from components.sources.readers.types import CaptionedImage, RemoteTar

_MARK = b"virtex-tar\n"
Tar = str | RemoteTar  # on this machine, or on a server


class Place(NamedTuple):
    """Where an image is: bytes of a tar."""

    tar: Tar
    offset: int
    size: int


def place_in_tar(image: CaptionedImage) -> bytes:
    """Return what a store holds of an image in a tar."""
    assert image.member is not None
    tar = image.tar
    where = [str(image.path)] if tar is None else [tar.url, tar.size, tar.sha256]
    return _MARK + json.dumps([image.member.offset, image.member.size, *where]).encode()


def read_place(data: bytes) -> Place | None:
    """Return the place that a store has instead of an image; None where it has the image."""
    if not data.startswith(_MARK):
        return None
    offset, size, *where = json.loads(data[len(_MARK) :])
    return Place(where[0] if len(where) == 1 else RemoteTar(*where), offset, size)


def image_in_tar(data: bytes) -> bytes:
    """Return an encoded image, which may have to be read from a tar.

    Raises:
        InputError: its tar cannot be read or fetched, or is another one by now.
    """
    place = read_place(data)
    if place is None:
        return data
    if isinstance(place.tar, RemoteTar):
        from components.sources.download.tar_cache import (
            machine_cache,  # which what is on this disk does not need
        )

        return machine_cache().read(place.tar, place.offset, place.size)
    try:
        with open(place.tar, "rb") as file:
            file.seek(place.offset)
            return file.read(place.size)
    except OSError as error:
        raise InputError(f"{place.tar}: cannot be read ({error.strerror}); was it moved?") from None
