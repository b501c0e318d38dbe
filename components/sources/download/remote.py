"""What a server says about a file before it is fetched, and whether an answer is what was asked for."""

import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import requests

from components.core.http import MirrorError, PaceError, Patience, ask, reason_of, require_file

# RFC 9110, section 8.8.2.2: a date may stand for several versions of a file unless it is well past.
_STRONG_DATE_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Remote:
    """A file on a server.

    Attributes:
        url: as asked for, before redirects (their targets may expire).
        size: bytes, or None where the server does not say.
        validator: a strong ETag or date for ``If-Range``; None where there is none or the server
            ignores ranges, and the file must come in one piece.
    """

    url: str
    size: int | None
    validator: str | None


def look_at(session: requests.Session, url: str, patience: Patience) -> Remote:
    """Ask for the first byte.

    Raises:
        MirrorError: no answer, a refusal, or an answer that is a web page or compressed on the way.
    """
    try:
        with ask(session, url, patience, headers={"Range": "bytes=0-0"}) as response:
            require_file(response)
            if response.status_code == 200:
                return Remote(url, _length(response), None)
            start, end, size = content_range(response)
    except (requests.RequestException, PaceError) as error:
        raise MirrorError(reason_of(error)) from None
    if start != 0:  # s3rver, for one, takes an end of 0 for none and answers with the whole
        raise MirrorError(f"was asked for the first byte, answered with bytes {start} to {end}")
    return Remote(url, size, _validator(response))


def content_range(response: requests.Response) -> tuple[int, int, int]:
    """Return first byte, last byte and size of the file, as ``Content-Range`` of a 206 says.

    Raises:
        MirrorError: it is missing or not understood.
    """
    written = response.headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", written.strip())
    if match is None:
        raise MirrorError(f"answers a range with Content-Range {written!r}")
    return int(match[1]), int(match[2]), int(match[3])


def _length(response: requests.Response) -> int | None:
    written = response.headers.get("Content-Length", "")
    return int(written) if re.fullmatch(r"\d{1,18}", written, re.ASCII) else None


def _validator(response: requests.Response) -> str | None:
    tag = response.headers.get("ETag")
    if tag:
        return None if tag.startswith("W/") else tag
    try:
        changed = parsedate_to_datetime(response.headers["Last-Modified"])
        age = parsedate_to_datetime(response.headers["Date"]) - changed
    except (KeyError, ValueError, TypeError):
        return None
    return response.headers["Last-Modified"] if age.total_seconds() >= _STRONG_DATE_SECONDS else None
