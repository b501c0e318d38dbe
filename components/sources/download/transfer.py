"""One file from one server: in pieces over several connections, going on where an earlier try ended.

Beside the growing ``<name>.part`` lies ``<name>.part.json``: which server, which version of the file
(its size and strong validator) and which pieces are on disk. Pieces of another version, or of an
unknown one, are never joined: every range is asked for with ``If-Range``, and every answer's
``Content-Range`` is checked. A server without ranges or without a strong validator gives the whole
file in one piece, from the start each time.
"""

import os
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
import urllib3

from components.core.files import read_json, write_json
from components.core.http import MirrorError, PaceError, Patience, ask, chunks, reason_of, require_file
from components.sources.download.remote import Remote, content_range

PIECE_BYTES = 16 * 2**20
_WORTH_BYTES = 64 * 2**10  # a try that brings at least this much counts as a success

_BROKEN = (requests.RequestException, urllib3.exceptions.HTTPError, PaceError)

Advance = Callable[[int], None]


class ChangedError(MirrorError):
    """The file on the server is another one than when it was looked at."""


class Transfer:
    """A file on its way to ``part``.

    Args:
        session: for all connections.
        remote: the file.
        part: where it grows; what an earlier transfer of the same version left there is kept.
        connections: at a time.
        patience: of every connection.
        piece_bytes: length of a range.
        most_bytes: of a file whose size the server does not say; None is no bound.
    """

    def __init__(
        self,
        session: requests.Session,
        remote: Remote,
        part: Path,
        connections: int,
        patience: Patience,
        piece_bytes: int = PIECE_BYTES,
        most_bytes: int | None = None,
    ) -> None:
        self._session = session
        self._most_bytes = most_bytes
        self._remote = remote
        self._part = part
        self._state_path = state_path(part)
        self._connections = connections
        self._patience = patience
        self._piece_bytes = piece_bytes
        self._stop = threading.Event()
        self._done = self._read_state()

    @property
    def done_bytes(self) -> int:
        """Bytes on disk that need not come again."""
        return sum(end - start + 1 for start, end in map(self._bounds, self._done))

    def run(self, advance: Advance) -> None:
        """Bring all that is missing.

        Raises:
            ChangedError: the file changed meanwhile; begin anew.
            MirrorError: the server does not give it.
        """
        if self._remote.validator is None:
            self._fetch_whole(advance)
        else:
            self._fetch_pieces(advance)

    def _read_state(self) -> set[int]:
        if self._remote.validator is None or not self._part.is_file():
            return set()
        try:
            state = read_json(self._state_path)
            same = {key: state[key] for key in self._version()} == self._version()
            pieces = set(state["pieces"]) & set(range(self._num_pieces()))
        except (OSError, ValueError, KeyError, TypeError):
            return set()
        return pieces if same and self._part.stat().st_size == self._remote.size else set()

    def _version(self) -> dict[str, object]:
        remote = self._remote
        return {
            "url": remote.url,
            "size": remote.size,
            "validator": remote.validator,
            "piece_bytes": self._piece_bytes,
        }

    def _num_pieces(self) -> int:
        assert self._remote.size is not None
        return -(-self._remote.size // self._piece_bytes)

    def _bounds(self, piece: int) -> tuple[int, int]:
        assert self._remote.size is not None
        start = piece * self._piece_bytes
        return start, min(start + self._piece_bytes, self._remote.size) - 1

    def _fetch_pieces(self, advance: Advance) -> None:
        missing: queue.SimpleQueue[int] = queue.SimpleQueue()
        for piece in range(self._num_pieces()):
            if piece not in self._done:
                missing.put(piece)
        results: queue.SimpleQueue[int | BaseException] = queue.SimpleQueue()
        if not self._done:
            # A new file: a thread of an earlier, given-up transfer may still write to the old one.
            self._part.unlink(missing_ok=True)

        def work() -> None:
            try:
                with _opened(self._part) as descriptor:
                    while not self._stop.is_set():
                        piece = missing.get_nowait()
                        self._fetch_piece(piece, descriptor, advance)
                        os.fsync(descriptor)
                        results.put(piece)
            except queue.Empty:
                pass
            except BaseException as error:
                results.put(error)

        with _opened(self._part, self._remote.size):
            pass
        # Daemons: an interruption must not wait for a silent server.
        for _ in range(min(self._connections, missing.qsize())):
            threading.Thread(target=work, daemon=True).start()
        try:
            while len(self._done) < self._num_pieces():
                result = results.get()
                if isinstance(result, BaseException):
                    raise result
                self._done.add(result)
                write_json(self._state_path, {**self._version(), "pieces": sorted(self._done)})
        finally:
            self._stop.set()

    def _fetch_piece(self, piece: int, descriptor: int, advance: Advance) -> None:
        position, end = self._bounds(piece)
        failures = 0
        while position <= end:
            start, reason = position, "the server broke off"
            try:
                for chunk in self._range(position, end):
                    if self._stop.is_set():
                        return
                    os.pwrite(descriptor, chunk, position)
                    position += len(chunk)
                    advance(len(chunk))
            except _BROKEN as error:
                reason = reason_of(error)
            if position > end:
                return
            failures = 1 if position - start >= _WORTH_BYTES else failures + 1
            if failures >= self._patience.attempts:
                raise MirrorError(f"gave up at byte {position:,}: {reason}")
            self._stop.wait(self._patience.wait_seconds(failures))

    def _range(self, start: int, end: int) -> Iterator[bytes]:
        assert self._remote.validator is not None
        headers = {"Range": f"bytes={start}-{end}", "If-Range": self._remote.validator}
        with ask(self._session, self._remote.url, self._patience, headers=headers) as response:
            if response.status_code in (200, 412, 416):  # 200: another version, so the whole of it
                raise ChangedError("the file changed while it was fetched")
            require_file(response)
            answered = content_range(response)
            if answered != (start, end, self._remote.size):
                raise MirrorError(f"was asked for bytes {start} to {end}, answered with {answered}")
            left = end - start + 1
            for chunk in chunks(response, self._patience):
                if len(chunk) > left:
                    raise MirrorError(f"sends more than the bytes {start} to {end}")
                left -= len(chunk)
                yield chunk

    def _fetch_whole(self, advance: Advance) -> None:
        self._state_path.unlink(missing_ok=True)
        for attempt in range(1, self._patience.attempts + 1):
            received = 0
            try:
                with _opened(self._part, 0) as descriptor:
                    for chunk in self._whole():
                        os.pwrite(descriptor, chunk, received)
                        received += len(chunk)
                        advance(len(chunk))
                    os.fsync(descriptor)
                if self._remote.size in (None, received):
                    return
                reason = f"the server broke off after {received:,} of {self._remote.size:,} bytes"
            except _BROKEN as error:
                reason = reason_of(error)
            advance(-received)
            if attempt < self._patience.attempts:
                self._stop.wait(self._patience.wait_seconds(attempt))
        raise MirrorError(f"gave up, and it cannot be resumed there: {reason}")

    def _whole(self) -> Iterator[bytes]:
        received = 0
        with ask(self._session, self._remote.url, self._patience) as response:
            require_file(response)
            if response.status_code == 206:
                raise MirrorError("was asked for the whole file, answered with a part of it")
            for chunk in chunks(response, self._patience):
                if self._most_bytes is not None and received + len(chunk) > self._most_bytes:
                    raise MirrorError(f"sends more than the {self._most_bytes:,} bytes expected")
                received += len(chunk)
                if self._remote.size is not None and received > self._remote.size:
                    raise MirrorError(f"sends more than the {self._remote.size:,} bytes it named")
                yield chunk


def state_path(part: Path) -> Path:
    """Return where the state of a growing file lies."""
    return part.with_name(f"{part.name}.json")


@contextmanager
def _opened(path: Path, size: int | None = None) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if size is not None:
            os.ftruncate(descriptor, size)
        yield descriptor
    finally:
        os.close(descriptor)
