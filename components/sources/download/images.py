"""Many small files from many servers: politely, a few at a time from each, kept as they arrive."""

import hashlib
import os
import re
import threading
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from urllib.parse import urlsplit

import requests
import urllib3

from components.core.http import (
    MirrorError,
    PaceError,
    Patience,
    ask,
    chunks,
    open_session,
    reason_of,
    require_file,
)
from components.sources.progress import Progress

CONNECTIONS_TO_A_SERVER = 4
LARGEST_BYTES = 100 * 10**6  # of one image
_PLACEHOLDER = re.compile(r"/(removed|photo_unavailable(_\w+)?)\.(png|gif)$")  # Imgur's and Flickr's
_PATIENCE = Patience(connect_seconds=10, read_seconds=20, attempts=3, longest_seconds=30, window_seconds=20)


def fetched_path(folder: Path, url: str) -> Path:
    """Return where the file of a URL lies once it is fetched."""
    name = hashlib.sha256(url.encode()).hexdigest()
    return folder / name[:2] / name


def url_fault(url: str) -> str | None:
    """Return why an http or https URL cannot even be asked for; None if it can."""
    try:
        url.encode()
        parts = urlsplit(url)
        host = parts.hostname
        if not host or any(character.isspace() for character in host):
            return "no host"
        host.encode("idna")
        parts.port  # noqa: B018  # raises where it is no number up to 65,535
    except ValueError as error:  # UnicodeError too
        return str(error)
    return None


def fetch_images(
    urls: Iterable[str], folder: Path, connections: int, patience: Patience = _PATIENCE
) -> dict[str, str]:
    """Fetch what is not yet in ``folder``.

    Args:
        urls: of images.
        folder: kept between calls, so that an interrupted one is continued.
        connections: at a time; to one server at most ``CONNECTIONS_TO_A_SERVER``.
        patience: of the network.

    Returns:
        Why it failed, by URL, for those that did.
    """
    faults = {url: url_fault(url) for url in dict.fromkeys(urls)}
    failures = {url: f"not a URL ({fault})" for url, fault in faults.items() if fault is not None}
    missing = [url for url in faults if url not in failures and not fetched_path(folder, url).exists()]
    session = open_session(patience, connections=CONNECTIONS_TO_A_SERVER)
    servers: defaultdict[str, threading.Semaphore] = defaultdict(
        lambda: threading.Semaphore(CONNECTIONS_TO_A_SERVER)
    )
    turns = {url: servers[urlsplit(url).netloc] for url in missing}
    pool = ThreadPoolExecutor(connections, "image-fetcher")
    try:
        waiting = {
            pool.submit(_fetch, session, url, fetched_path(folder, url), turns[url], patience): url
            for url in missing
        }
        with Progress("fetching images", len(missing), unit="images") as progress:
            for done in as_completed(waiting):
                progress.advance(1)
                if (reason := done.result()) is not None:
                    failures[waiting[done]] = reason
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return failures


def _fetch(
    session: requests.Session, url: str, path: Path, turn: threading.Semaphore, patience: Patience
) -> str | None:
    with turn:
        reason = "nothing came"
        for _ in range(2):  # the session itself tries again when nothing has come yet
            try:
                content = _content(session, url, patience)
            except MirrorError as error:
                return str(error)
            except (requests.RequestException, urllib3.exceptions.HTTPError, PaceError) as error:
                reason = reason_of(error)
                continue
            except ValueError as error:  # a redirect to what is no URL
                return f"not a URL ({error})"
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f"{path.name}.part")
            partial.write_bytes(content)
            os.replace(partial, path)
            return None
        return reason


def _content(session: requests.Session, url: str, patience: Patience) -> bytes:
    with ask(session, url, patience) as response:
        require_file(response)
        if _PLACEHOLDER.search(urlsplit(response.url).path) and response.url != url:
            raise MirrorError("answers with its picture for images that are gone")
        try:
            content = b"".join(chunks(response, patience, LARGEST_BYTES))
        except PaceError as error:
            raise MirrorError(f"{error}; is it an image?") from None
    if not content:
        raise MirrorError("an empty file")
    return content
