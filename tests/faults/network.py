"""A download from a server that misbehaves, told as a subject: what is fetched, and the ways to fail."""

import contextlib
import functools
import hashlib
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from components.core.http import open_session
from components.sources.download.dataset import Wanted, fetch_file
from tests.components.sources.download.conftest import HURRIED, Handler, Served, Server, stall, times
from tests.faults.subjects import Subject, digest

DATA = random.Random(0).randbytes(200_000)
NAME = "photos.bin"
PIECE = 64 * 2**10

OPERATIONS = 32  # of a download without faults

_fault: list[tuple[Callable[[Handler], None], int, bool]] = []  # of the server that the next start asks


def fetch() -> Any:
    """Fetch one file, in pieces, from a server with the fault that was chosen."""
    server = Server()
    served = server.files[f"/{NAME}"] = Served(DATA)
    for fault, count, but_look in _fault:
        served.faults.append(times(count, fault, but_look))
    server.http.handle_error = lambda *_: None  # type: ignore[method-assign]
    threading.Thread(target=server.http.serve_forever, args=(0.02,), daemon=True).start()
    wanted = Wanted(NAME, (f"{server.url}/{NAME}",), len(DATA), hashlib.md5(DATA).hexdigest())
    with contextlib.closing(open_session(HURRIED, wanted.urls)) as session:
        found = fetch_file(wanted, Path("incoming"), session, 2, HURRIED, PIECE)
    return [digest(found.path.read_bytes()), sorted(os.listdir("incoming"))]


def misbehave(fault: Callable[[Handler], None], count: int, but_look: bool, _: Path) -> None:
    _fault.append((fault, count, but_look))


DOWNLOAD = Subject("download", lambda: None, fetch, names=NAME)


def _asked(handler: Handler) -> tuple[int, bytes, str | None]:
    """Status, bytes and range of the right answer."""
    start, end = handler.span(Served(DATA))
    if start is None or end is None:
        return 200, DATA, None
    return 206, DATA[start : end + 1], f"bytes {start}-{end}/{len(DATA)}"


def _answer(handler: Handler, change: Callable[[bytes], bytes], whole_length: bool) -> None:
    status, body, content_range = _asked(handler)
    length = len(body) if whole_length else None
    handler.answer(status, change(body), Served(DATA), content_range, length)


def broken_off(share: float) -> Callable[[Handler], None]:
    """After this share of the answer the connection is closed."""
    return functools.partial(_answer, change=lambda body: body[: int(len(body) * share)], whole_length=True)


def other_bytes(handler: Handler) -> None:
    _answer(handler, lambda body: bytes(len(body)), False)


def too_little(handler: Handler) -> None:
    _answer(handler, lambda body: body[:-1], False)


def too_much(handler: Handler) -> None:
    _answer(handler, lambda body: body + b"more", False)


def status(number: int) -> Callable[[Handler], None]:
    return lambda handler: handler.answer(number, b"sorry")


def page(handler: Handler) -> None:
    handler.answer(200, b"<html>please log in</html>", Content_Type="text/html")


def round_and_round(handler: Handler) -> None:
    handler.answer(302, b"", Location=handler.path)


def wrong_range(handler: Handler) -> None:
    code, body, _ = _asked(handler)
    handler.answer(code, body, Served(DATA), f"bytes 0-{len(body) - 1}/{len(DATA) + 1}")


def no_http(handler: Handler) -> None:
    handler.wfile.write(b"\x00\xff nonsense\r\n\r\n")
    handler.close_connection = True


def hung_up(handler: Handler) -> None:
    handler.close_connection = True


WAYS: dict[str, Callable[[Handler], None]] = {
    **{f"broken off after {share:.0%}": broken_off(share) for share in (0.0, 0.1, 0.5, 0.9, 0.999)},
    **{f"status {number}": status(number) for number in (204, 301, 400, 403, 404, 408, 429, 500, 502, 503)},
    "other bytes": other_bytes,
    "too little": too_little,
    "too much": too_much,
    "a page": page,
    "redirects to itself": round_and_round,
    "another range": wrong_range,
    "no HTTP": no_http,
    "hung up": hung_up,
    "silent": stall,
}
