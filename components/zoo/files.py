"""Weights as files on this disk, from a path or a URL, checked against a checksum if one is given."""

import hashlib
import os
import re
import urllib.request
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

import torch
from tqdm import tqdm

from components.atomic import writing
from components.errors import InputError

CHECKSUM = "#sha256="  # after a path or URL, followed by 64 hexadecimal digits
TIMEOUT_SECONDS = 60
CHUNK_BYTES = 1 << 20


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
    if checksum:
        with open(path, "rb") as file:
            _check(place, path, hashlib.file_digest(file, "sha256").hexdigest(), checksum)
    return path


def cached_path(url: str) -> Path:
    """Where a URL's file lies once it is here: its own name behind a digest of the whole URL."""
    name = os.path.basename(urlsplit(url).path) or "weights"
    return cache_dir() / f"{hashlib.sha256(url.encode()).hexdigest()[:12]}-{name}"


def _download(url: str, path: Path, checksum: str) -> None:
    digest = hashlib.sha256()
    try:
        with (
            urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer,
            writing(path) as temporary,
            open(temporary, "wb") as file,
            tqdm(total=answer.length, unit="B", unit_scale=True, desc=path.name, mininterval=1) as progress,
        ):
            while chunk := answer.read(CHUNK_BYTES):
                file.write(chunk)
                digest.update(chunk)
                progress.update(len(chunk))
            if answer.length:  # bytes that were promised and did not come
                raise InputError(f"{url}: the connection ended {answer.length:,} bytes early; try again")
            _check(url, path, digest.hexdigest(), checksum)
    except (OSError, HTTPException, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{url}: cannot be fetched ({error}); fetch it by hand and give the path of the file"
        ) from error


def _check(source: str, path: Path, found: str, expected: str) -> None:
    if expected and found != expected.lower():
        raise InputError(
            f"{source}: its SHA-256 is {found}, not {expected}; it is damaged or another file than you meant"
            + (f" (remove {path} to fetch it anew)" if is_url(source) and path.exists() else "")
        )
