"""WebDataset shards on a server, by the rules of those on this disk (`shards`, beside this)."""

import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from components.core.errors import InputError, first_line
from components.sources.download.tar_cache import AbsentError, TarCache
from components.sources.layout import Tally
from components.sources.readers.own.image_places import LeftOut
from components.sources.readers.own.sample import OwnImages, OwnSettings
from components.sources.readers.own.shards import add_shard, read_shard

MOST_TARS = 100_000  # that one entry may name; more is a mistake
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d{1,9})\.\.(\d{1,9})")


def expanded(urls: str) -> list[str]:
    """Return the URLs that a text names, with spaces between; `_expanded` says what braces mean."""
    found = [url for pattern in urls.split() for url in _expanded(pattern)]
    if len(found) > MOST_TARS or len({*found}) < len(found):
        raise InputError(f"{urls}: names a tar twice, or more than {MOST_TARS:,}")
    return found


def _expanded(urls: str) -> list[str]:
    """Return what ``{00000..00099}`` and ``{a,b}`` stand for, in order; numbers keep their zeros.

    Raises:
        InputError: braces that mean nothing, or more than `MOST_TARS`.
    """
    found = [""]
    for place, part in enumerate(_BRACES.split(urls)):
        choices = [part] if place % 2 == 0 else _choices(part, urls)
        if len(found) * len(choices) > MOST_TARS:
            raise InputError(f"{urls}: names more than {MOST_TARS:,} tars; name a part of them")
        found = [before + choice for before in found for choice in choices]
    if any(sign in url for url in found[:1] for sign in "{}"):
        raise InputError(f"{urls}: a brace without its other one; expected {{00000..00099}} or {{a,b}}")
    return found


def _choices(written: str, urls: str) -> Sequence[str]:
    if match := _RANGE.fullmatch(written):
        first, last = int(match[1]), int(match[2])
        width = len(match[1]) if match[1].startswith("0") else 0
        if not 0 <= last - first < MOST_TARS:
            raise InputError(f"{urls}: {{{written}}} does not rise, or names more than {MOST_TARS:,} tars")
        return [f"{number:0{width}}" for number in range(first, last + 1)]
    if "," not in written:
        raise InputError(f"{urls}: {{{written}}}: expected {{00000..00099}} or {{a,b}}")
    return written.split(",")


def read_remote_shards(
    urls: str,
    root: Path,
    settings: OwnSettings,
    images: OwnImages,
    tally: Tally,
    *,
    cache: TarCache,
    skip_unreadable: bool,
) -> list[LeftOut]:
    """Fetch each tar once and add its images in the order of the names; return tars that are left out.

    Args:
        urls: with braces.
        root: the folder that the images' paths begin with.
        settings: names the caption column of JSON files.
        images: where they go.
        tally: is told of what is left out.
        cache: where tars are kept.
        skip_unreadable: leave out a tar that is absent or damaged, rather than to refuse.

    Raises:
        InputError: such a tar is refused, the server or this machine refuses one that is there, or not one
            could be read.
    """
    names = sorted(expanded(urls))
    folder = os.path.commonpath([PurePosixPath(name).parent for name in names])
    left_out = []
    for url in names:
        relative = Path(os.path.relpath(PurePosixPath(url), folder))
        fault: InputError
        try:
            tar, file = cache.new(url)
        except AbsentError as error:
            fault = error
        else:
            try:
                with file:
                    samples = read_shard(file, url, tally)
            except InputError as error:
                fault = error
            else:
                add_shard(samples, url, relative, root / relative, (url,), settings, images, tally, tar)
                continue
        if not skip_unreadable:
            raise fault
        left_out.append(LeftOut(url, relative.name, first_line(str(fault).removeprefix(f"{url}: "))))
    if len(left_out) == len(names):
        raise InputError(f"{urls}: not one of {len(names)} tars could be read: {left_out[0].reason}")
    return left_out
