"""Training images that stay in their tars: a store holds their places, and they are read from there.

In the place of an image a record then has ``virtex-tar`` and a JSON list after a new line: offset and size in
bytes of the image and the CRC-32 of those, and where its tar is: a path on this machine, or URL, size and
SHA-256. So a tar that has changed since never gives another image in an image's place. Tars of a server
come through components.sources.download.tar_cache. All else, the order of the images and how a run goes on,
is the store's; components.data.tar_visits can have another order, one that needs few tars at a time.
"""

import json
import zlib
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
    crc: int


def place_in_tar(image: CaptionedImage, data: bytes) -> bytes:
    """Return what a store holds of an image in a tar, whose bytes are ``data``."""
    assert image.member is not None
    tar = image.tar
    where = [str(image.path)] if tar is None else [tar.url, tar.size, tar.sha256]
    return _MARK + json.dumps([image.member.offset, image.member.size, zlib.crc32(data), *where]).encode()


def read_place(data: bytes) -> Place | None:
    """Return the place that a store has instead of an image; None where it has the image."""
    if not data.startswith(_MARK):
        return None
    offset, size, crc, *where = json.loads(data[len(_MARK) :])
    return Place(where[0] if len(where) == 1 else RemoteTar(*where), offset, size, crc)


def image_in_tar(data: bytes) -> bytes:
    """Return an encoded image, which may have to be read from a tar.

    Raises:
        InputError: its tar cannot be read or fetched, or is another one by now.
    """
    place = read_place(data)
    if place is None:
        return data
    if isinstance(place.tar, RemoteTar):
        return _fetched(place.tar, place)
    try:
        with open(place.tar, "rb") as file:
            file.seek(place.offset)
            found = file.read(place.size)
    except OSError as error:
        raise InputError(f"{place.tar}: cannot be read ({error.strerror}); was it moved?") from None
    return _unchanged(found, place, place.tar)


def _fetched(tar: RemoteTar, place: Place) -> bytes:
    """Return the bytes of a tar on a server, which is fetched once more if its file here is damaged."""
    from components.sources.download.tar_cache import (
        machine_cache,  # which what is on this disk does not need
    )

    cache = machine_cache()
    found = cache.read(tar, place.offset, place.size)
    if zlib.crc32(found) != place.crc:
        cache.forget(tar)
        found = cache.read(tar, place.offset, place.size)
    return _unchanged(found, place, tar.url)


def _unchanged(found: bytes, place: Place, tar: str) -> bytes:
    if zlib.crc32(found) != place.crc:
        raise InputError(
            f"{tar}: not the {place.size:,} bytes from {place.offset:,} on that the lmdb stage has read; did "
            "it change? Put the former one there, or run `virtex run datasets lmdb --force`"
        )
    return found
