"""A web server that can be told how to misbehave."""

import email.utils
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from components.core.http import Patience

HURRIED = Patience(connect_seconds=2, read_seconds=0.4, attempts=3, backoff_seconds=0.01, longest_seconds=1)

Fault = Callable[["Handler"], bool]


@dataclass
class Served:
    """A file of the server, and how it is served.

    Attributes:
        data: its bytes.
        etag: sent as it is; None sends none.
        changed: seconds since the epoch for Last-Modified; None sends none.
        ranges: whether ranges are answered.
        faults: each is asked in turn, by request, until one says that it has answered.
    """

    data: bytes
    etag: str | None = '"one"'
    changed: float | None = None
    ranges: bool = True
    faults: list[Fault] = field(default_factory=list)


class Server:
    """Its files by path, and the requests it had: path, Range and Authorization."""

    def __init__(self) -> None:
        self.files: dict[str, Served] = {}
        self.requests: list[tuple[str, str | None, str | None]] = []
        self.lock = threading.Lock()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.http.owner = self  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"

    def ranges_asked(self) -> list[str]:
        return [asked for _, asked, _ in self.requests if asked and asked != "bytes=0-0"]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        owner: Server = self.server.owner  # type: ignore[attr-defined]
        asked = self.headers.get("Range")
        with owner.lock:
            owner.requests.append((self.path, asked, self.headers.get("Authorization")))
        served = owner.files.get(self.path)
        if served is None:
            self.answer(404, b"no such file")
            return
        if any(fault(self) for fault in served.faults):
            return
        start, end = self.span(served)
        partial = start is not None and end is not None
        self.answer(
            206 if partial else 200,
            served.data[start : end + 1] if partial else served.data,
            served,
            f"bytes {start}-{end}/{len(served.data)}" if partial else None,
        )

    def span(self, served: Served) -> tuple[int, int] | tuple[None, None]:
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range")
        known = served.etag or (served.changed and email.utils.formatdate(served.changed, usegmt=True))
        if not match or not served.ranges or (condition and condition != known):
            return None, None
        return int(match[1]), min(int(match[2]), len(served.data) - 1)

    def answer(
        self,
        status: int,
        body: bytes,
        served: Served | None = None,
        content_range: str | None = None,
        length: int | None = None,
        **headers: str,
    ) -> None:
        """Send it all; with ``length`` above the body's, break off after the body."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        if served and served.etag:
            self.send_header("ETag", served.etag)
        if served and served.changed is not None:
            self.send_header("Last-Modified", email.utils.formatdate(served.changed, usegmt=True))
        if content_range:
            self.send_header("Content-Range", content_range)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)
        if length is not None and length > len(body):
            self.close_connection = True


@pytest.fixture
def server() -> Iterator[Server]:
    serving = Server()
    thread = threading.Thread(target=serving.http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield serving
    serving.http.shutdown()
    serving.http.server_close()


def times(count: int, fault: Callable[[Handler], None], but_look: bool = True) -> Fault:
    """``fault`` answers the first ``count`` requests, those for the first byte alone left out."""
    left = [count]

    def answered(handler: Handler) -> bool:
        if left[0] <= 0 or (but_look and handler.headers.get("Range") == "bytes=0-0"):
            return False
        left[0] -= 1
        fault(handler)
        return True

    return answered


def stall(handler: Handler) -> None:
    """Promise bytes, send a few, fall silent."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    handler.wfile.write(b"a few")
    handler.wfile.flush()
    time.sleep(1)
    handler.close_connection = True
