"""Weights as files on this disk, from a path or a URL, checked against a checksum if one is given."""

import hashlib
import os
import re
import urllib.request
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

import torch
from tqdm import tqdm

from components.core.errors import InputError
from components.core.files import writing
from components.core.pace import Pace, begun_within

CHECKSUM = "#sha256="  # after a path or URL, followed by 64 hexadecimal digits
TIMEOUT_SECONDS = 60
BEGIN_SECONDS = 180  # until an answer begins, redirects included
CHUNK_BYTES = 1 << 20
LARGEST_BYTES = 4 * 10**9  # of weights, with the state of an optimizer
_BEGINNING_BYTES = 512


def cache_dir() -> Path:
    """Where downloaded weights stay: ``virtex`` in torch.hub's folder, so below TORCH_HOME if that is set."""
    return Path(torch.hub.get_dir()) / "virtex"


def is_url(source: str) -> bool:
    """Whether ``source`` is to be downloaded."""
    return source.startswith(("http://", "https://"))


def local_file(source: str) -> Path:
    """The file that ``source`` names, downloaded once if it is a URL.

    Args:
        source: a path or an http(s) URL; ``#sha256=...`` after it is held against the file.

    Raises:
        InputError: if the file is missing, cannot be fetched whole, or has another checksum.
    """
    place, _, checksum = source.partition(CHECKSUM)
    if CHECKSUM in source and not re.fullmatch(r"[0-9a-fA-F]{64}", checksum):
        raise InputError(f"{source}: expected 64 hexadecimal digits after {CHECKSUM}")
    path = Path(place)
    if is_url(place):
        path = cached_path(place)
        if not path.is_file():
            _download(place, path, checksum)
            return path
    if not path.is_file():
        raise InputError(f"{place}: no such file; expected weights at this path, or an http(s) URL")
    with open(path, "rb") as file:
        _require_weights(
            place, file.read(_BEGINNING_BYTES), f" (remove {path} to fetch it anew)" * is_url(place)
        )
    if checksum:
        with open(path, "rb") as file:
            _check(place, path, hashlib.file_digest(file, "sha256").hexdigest(), checksum)
    return path


def cached_path(url: str) -> Path:
    """Where a URL's file lies once it is here: its own name behind a digest of the whole URL."""
    name = os.path.basename(urlsplit(url).path) or "weights"
    return cache_dir() / f"{hashlib.sha256(url.encode()).hexdigest()[:12]}-{name}"


def _download(url: str, path: Path, checksum: str) -> None:
    digest, pace, received = hashlib.sha256(), Pace(LARGEST_BYTES), 0
    try:
        with (
            begun_within(BEGIN_SECONDS, lambda: _answer(url)) as answer,
            writing(path) as temporary,
            open(temporary, "wb") as file,
            tqdm(total=answer.length, unit="B", unit_scale=True, desc=path.name, mininterval=1) as progress,
        ):
            promised = answer.length  # read1 does not count it down in every Python
            if promised and promised > LARGEST_BYTES:
                raise InputError(f"{url}: has {promised:,} bytes; weights have {LARGEST_BYTES:,} at most")
            while received != promised and (chunk := answer.read1(CHUNK_BYTES)):
                if not received:
                    _require_weights(url, chunk)
                pace.came(len(chunk))
                file.write(chunk)
                digest.update(chunk)
                progress.update(len(chunk))
                received += len(chunk)
            if promised is not None and received < promised:
                early = promised - received
                raise InputError(f"{url}: the connection ended {early:,} bytes early; try again")
            if not received:
                _require_weights(url, b"")
            _check(url, path, digest.hexdigest(), checksum)
    except (OSError, HTTPException, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{url}: cannot be fetched ({error}); fetch it by hand and give the path of the file"
        ) from error


def _answer(url: str) -> HTTPResponse:
    answer: HTTPResponse = urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS)
    return answer


def _require_weights(source: str, beginning: bytes, advice: str = "") -> None:
    """Refuse what is often saved under the name of weights, before it is read, or fetched to its end.

    Raises:
        InputError: says what it is instead.
    """
    text = beginning[:_BEGINNING_BYTES].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    what = None
    if text.startswith(b"version https://git-lfs"):
        what = "a pointer of Git LFS and not the file itself: `git lfs pull` fetches that"
    elif text.startswith((b"<!doctype html", b"<html", b"<?xml", b"<head")):
        what = "a web page and not the file itself: open its address in a browser and save the file there"
    elif not beginning:
        what = "empty"
    elif not _begins_like_weights(beginning):
        what = "no file of weights: neither torch.save's nor a safetensors file begins like that"
    if what:
        raise InputError(f"{source}: is {what}{advice}")


def _begins_like_weights(beginning: bytes) -> bool:
    """Like a zip archive or a pickle, torch.save's new and old forms, or like a safetensors file."""
    return beginning.startswith((b"PK\x03\x04", b"\x80")) or beginning[8:9] == b"{"


def _check(source: str, path: Path, found: str, expected: str) -> None:
    if expected and found != expected.lower():
        raise InputError(
            f"{source}: its SHA-256 is {found}, not {expected}; it is damaged or another file than you meant"
            + (f" (remove {path} to fetch it anew)" if is_url(source) and path.exists() else "")
        )
