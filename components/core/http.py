"""HTTP as this project speaks it: patient with servers, silent about the user, bounded in size and time."""

import os
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

T = TypeVar("T")

SLOWEST_BYTES_PER_SECOND = 1000  # a twentieth of a modem's; a server below it for a minute is given up
WINDOW_SECONDS = 60.0
TOKEN_VARIABLE = "VIRTEX_DOWNLOAD_TOKEN"
_CHUNK_BYTES = 256 * 2**10
_BUSY = (429, 500, 502, 503, 504)
_PASSING = (408, 425, *_BUSY)  # of these statuses another try may do better
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait, in seconds, and how often to try again.

    Attributes:
        connect_seconds: for a connection.
        read_seconds: between two pieces of an answer; longer silence counts as a cut.
        attempts: tries in a row that bring next to nothing before a mirror is given up.
        backoff_seconds: before the second try; doubled from try to try, up to ``longest_seconds``.
        longest_seconds: the longest wait, also where a server asks for more with ``Retry-After``.
        window_seconds: an answer that is below the slowest pace for so long is given up.
    """

    connect_seconds: float = 15.0
    read_seconds: float = 60.0
    attempts: int = 6
    backoff_seconds: float = 1.0
    longest_seconds: int = 120
    window_seconds: float = WINDOW_SECONDS

    @property
    def timeout(self) -> tuple[float, float]:
        """As requests takes it."""
        return self.connect_seconds, self.read_seconds

    @property
    def begin_seconds(self) -> float:
        """The longest that a request may take until its answer begins, with all its tries."""
        return self.attempts * (self.connect_seconds + self.read_seconds + self.longest_seconds)

    def wait_seconds(self, failures: int) -> float:
        """Return the seconds to wait after so many failures in a row."""
        return min(self.backoff_seconds * 2 ** (failures - 1), float(self.longest_seconds))


class MirrorError(Exception):
    """A mirror cannot be used; says why, for a person."""


class RefusedError(MirrorError):
    """A mirror answers, and will not give the file however often it is asked; ``status`` is its answer's."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class _TokenAuth(requests.auth.AuthBase):
    """Sends the token to the hosts the user named, over TLS or on this machine, and to nobody else."""

    def __init__(self, token: str | None, hosts: Collection[str]) -> None:
        self._token = token
        self._hosts = hosts

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        url = urlsplit(request.url or "")
        private = url.scheme == "https" or url.hostname in _LOOPBACK
        if self._token and private and url.netloc in self._hosts:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class _Session(requests.Session):
    """Never reads ~/.netrc, which requests would do again at every redirect."""

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        before, after = response.request.url, prepared_request.url
        if self.should_strip_auth(before or "", after or ""):
            prepared_request.headers.pop("Authorization", None)


def open_session(patience: Patience, token_urls: Collection[str] = (), connections: int = 8) -> _Session:
    """Open a session for several threads that retries when a server is busy or breaks off before answering.

    Args:
        patience: of every request.
        token_urls: their hosts get the token of ``VIRTEX_DOWNLOAD_TOKEN``, where it is set.
        connections: kept open to a host.
    """
    session = _Session()
    hosts = {urlsplit(url).netloc for url in token_urls}
    session.auth = _TokenAuth(os.environ.get(TOKEN_VARIABLE), hosts)
    session.headers.update({"User-Agent": "virtex-pipeline", "Accept-Encoding": "identity"})
    retry = Retry(
        total=None,
        connect=min(patience.attempts, 2),
        read=1,
        status=patience.attempts,
        status_forcelist=_BUSY,
        allowed_methods={"GET"},
        backoff_factor=patience.backoff_seconds,
        backoff_max=patience.longest_seconds,
        retry_after_max=patience.longest_seconds,
        raise_on_status=False,
    )
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=connections, max_retries=retry))
    return session


def ask(session: requests.Session, url: str, patience: Patience, **options: Any) -> requests.Response:
    """Return the answer once it has begun; its body is still to come.

    Raises:
        PaceError: it does not begin. Else whatever requests raises.
    """
    return begun_within(
        patience.begin_seconds, lambda: session.get(url, stream=True, timeout=patience.timeout, **options)
    )


def chunks(response: requests.Response, patience: Patience, most_bytes: int | None = None) -> Iterator[bytes]:
    """Yield the body as it comes in: after a cut, or a silence, all that came before it has been handed on.

    Raises:
        PaceError: it is longer than ``most_bytes``, or too slow.
    """
    pace = Pace(most_bytes, patience.window_seconds)
    while chunk := response.raw.read1(_CHUNK_BYTES):
        pace.came(len(chunk))
        yield chunk


def reason_of(error: Exception) -> str:
    """Return what a person needs of a network error: its innermost cause."""
    while True:
        inner = error.__cause__ or (error.args[0] if error.args else None)
        inner = getattr(inner, "reason", inner)
        if not isinstance(inner, Exception):
            return str(error) or type(error).__name__
        error = inner


def require_file(response: requests.Response) -> None:
    """Check that the answer is the bytes of a file: status 200 or 206, no page, no compression.

    Raises:
        MirrorError: says what it is instead; RefusedError where another try would say the same.
    """
    status = response.status_code
    if status not in (200, 206):
        hint = {401: "; does it want a token?", 403: "; is a token missing or refused?"}
        said = f"HTTP {status} {response.reason}{hint.get(status, '')}"
        raise MirrorError(said) if status in _PASSING or status >= 500 else RefusedError(said, status)
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise RefusedError(f"sends the file compressed ({response.headers['Content-Encoding']})", status)
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise RefusedError("answers with a web page, not with the file", status)


class PaceError(OSError):
    """More came than may, or too little; says so for a person."""


class Pace:
    """Counts the bytes of one answer as they come.

    Args:
        most_bytes: no more than this may come; None is no bound.
        window_seconds: in each span of this length ``SLOWEST_BYTES_PER_SECOND`` must come on average.
    """

    def __init__(self, most_bytes: int | None = None, window_seconds: float = WINDOW_SECONDS) -> None:
        self._most_bytes = most_bytes
        self._window_seconds = window_seconds
        self._total = 0
        self._since = time.monotonic()
        self._in_window = 0

    def came(self, num_bytes: int) -> None:
        """Note that so many bytes have come.

        Raises:
            PaceError: they are too many, or came too slowly.
        """
        self._total += num_bytes
        self._in_window += num_bytes
        if self._most_bytes is not None and self._total > self._most_bytes:
            raise PaceError(f"sends more than {self._most_bytes:,} bytes")
        seconds = time.monotonic() - self._since
        if seconds < self._window_seconds:
            return
        if self._in_window < SLOWEST_BYTES_PER_SECOND * seconds:
            raise PaceError(f"too slow: {self._in_window:,} bytes in {seconds:.0f} seconds")
        self._since, self._in_window = time.monotonic(), 0


def begun_within(seconds: float, ask: Callable[[], T]) -> T:
    """Return what ``ask`` returns or raises within ``seconds``; then stop waiting for it.

    For requests: their own time limits begin anew with every byte, and headers may come one by one.

    Raises:
        PaceError: it took longer.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(ask())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, name="request", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise PaceError(f"no answer within {seconds:.0f} seconds")
    return results[0]
