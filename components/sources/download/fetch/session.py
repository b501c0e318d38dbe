"""HTTP as this project speaks it: patient with servers, silent about the user."""

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from components.core.pace import WINDOW_SECONDS, Pace, begun_within

TOKEN_VARIABLE = "VIRTEX_DOWNLOAD_TOKEN"
_CHUNK_BYTES = 256 * 2**10
_BUSY = (429, 500, 502, 503, 504)
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
        """Seconds to wait after so many failures in a row."""
        return min(self.backoff_seconds * 2 ** (failures - 1), float(self.longest_seconds))


class MirrorError(Exception):
    """A mirror cannot be used; says why, for a person."""


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
    """A session for several threads that tries again when a server is busy or breaks off before answering.

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
    """The answer once it has begun; its body is still to come.

    Raises:
        PaceError: it does not begin. Else whatever requests raises.
    """
    return begun_within(
        patience.begin_seconds,
        lambda: session.get(url, stream=True, timeout=patience.timeout, **options),
    )


def chunks(response: requests.Response, patience: Patience, most_bytes: int | None = None) -> Iterator[bytes]:
    """The body as it comes in: after a cut, or a silence, all that came before it has been handed on.

    Raises:
        PaceError: it is longer than ``most_bytes``, or too slow.
    """
    pace = Pace(most_bytes, patience.window_seconds)
    while chunk := response.raw.read1(_CHUNK_BYTES):
        pace.came(len(chunk))
        yield chunk


def reason_of(error: Exception) -> str:
    """What a person needs of an error of the network: its innermost cause."""
    while True:
        inner = error.__cause__ or (error.args[0] if error.args else None)
        inner = getattr(inner, "reason", inner)
        if not isinstance(inner, Exception):
            return str(error) or type(error).__name__
        error = inner
