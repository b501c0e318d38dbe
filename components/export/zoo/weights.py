"""From what a person calls weights (a published model, a path or a URL) to tensors on this machine.

A URL's file is downloaded once and held against a checksum if one is given; nothing in a file is run.
"""

import hashlib
import os
import pickle
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm
from urllib3.exceptions import HTTPError, ProtocolError

from components.core.errors import InputError
from components.core.files import writing
from components.core.http import MirrorError, Patience, ask, chunks, open_session, reason_of, require_file
from components.core.tensor_files import require_sound
from components.export.zoo.catalogue import ZOO
from components.params import CHECKSUM_MARK
from components.params.reading import nearest

PATIENCE = Patience(attempts=2, longest_seconds=30)  # a person waits
LARGEST_BYTES = 4 * 10**9  # of weights, with the state of an optimizer
_BEGINNING_BYTES = 512
# Where training code keeps the weights among other state: VirTex, detectron2, timm; MoCo, DINO, lightning.
HOLDERS = ("model", "state_dict")


def open_weights(source: str, other_words: Sequence[str] = ()) -> dict[str, Tensor]:
    """Read the tensors of a published model by its name, or of the file at a path or URL.

    ``other_words`` are other names that the user may have meant, for the hint in an error.

    Raises:
        InputError: if ``source`` is none of these, or its file cannot be fetched or read.
    """
    place = source.partition(CHECKSUM_MARK)[0]
    if place in ZOO:
        source = source.replace(place, ZOO[place].url, 1)
    elif not is_url(place) and not Path(place).exists() and not {"/", "."} & set(place):
        raise InputError(
            f"{source}: neither a file nor a published model{nearest(place, [*ZOO, *other_words])}"
        )
    path = local_file(source)
    try:
        return read_tensors(path)
    except InputError as error:
        if not is_url(source):
            raise
        raise InputError(f"{error}; this came from {source}; remove the file to fetch it again") from error


def cache_dir() -> Path:
    """Return the folder of downloaded weights: ``virtex`` in torch.hub's, so below TORCH_HOME if set."""
    return Path(torch.hub.get_dir()) / "virtex"


def is_url(source: str) -> bool:
    """Return whether ``source`` is to be downloaded."""
    return source.startswith(("http://", "https://"))


def local_file(source: str) -> Path:
    """Return the file that ``source`` names, downloaded once if it is a URL.

    Args:
        source: a path or an http(s) URL; ``#sha256=...`` after it is compared with the file's.

    Raises:
        InputError: if the file is missing, cannot be fetched whole, or has another checksum.
    """
    place, _, checksum = source.partition(CHECKSUM_MARK)
    if CHECKSUM_MARK in source and not re.fullmatch(r"[0-9a-fA-F]{64}", checksum):
        raise InputError(f"{source}: expected 64 hexadecimal digits after {CHECKSUM_MARK}")
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
            place, file.read(_BEGINNING_BYTES), f" (remove {path} to fetch it again)" * is_url(place)
        )
    if checksum:
        with open(path, "rb") as file:
            _check(place, path, hashlib.file_digest(file, "sha256").hexdigest(), checksum)
    return path


def cached_path(url: str) -> Path:
    """Return the place of a URL's file: its own name behind a digest of the whole URL."""
    name = os.path.basename(urlsplit(url).path) or "weights"
    return cache_dir() / f"{hashlib.sha256(url.encode()).hexdigest()[:12]}-{name}"


def _download(url: str, path: Path, checksum: str) -> None:
    try:
        with ask(open_session(PATIENCE), url, PATIENCE) as response, writing(path) as temporary:
            require_file(response)
            found = _receive(response, url, temporary)
            _check(url, path, found, checksum)
    except InputError:
        raise
    except (MirrorError, OSError, HTTPError, ValueError) as error:
        raise InputError(
            f"{url}: cannot be fetched ({reason_of(error)}); fetch it by hand and give the path of the file"
        ) from error


def _receive(response: requests.Response, url: str, path: Path) -> str:
    """Write an answer's body to ``path`` as it comes in; return its SHA-256."""
    written = response.headers.get("Content-Length", "")
    size = int(written) if written.isdecimal() else None
    if size and size > LARGEST_BYTES:
        raise InputError(f"{url}: has {size:,} bytes; expected at most {LARGEST_BYTES:,} of weights")
    digest, received = hashlib.sha256(), 0
    name = os.path.basename(urlsplit(url).path)
    with (
        open(path, "wb") as file,
        tqdm(total=size, unit="B", unit_scale=True, desc=name, mininterval=1) as progress,
    ):
        try:
            for chunk in chunks(response, PATIENCE, LARGEST_BYTES):
                if not received:
                    _require_weights(url, chunk)
                file.write(chunk)
                digest.update(chunk)
                progress.update(len(chunk))
                received += len(chunk)
        except ProtocolError as error:
            if size is None:
                raise
            early = size - received
            raise InputError(f"{url}: the connection ended {early:,} bytes early; try again") from error
    if not received:
        _require_weights(url, b"")
    return digest.hexdigest()


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
        what = "not a file of weights: neither torch.save's nor a safetensors file begins like that"
    if what:
        raise InputError(f"{source}: is {what}{advice}")


def _begins_like_weights(beginning: bytes) -> bool:
    """Recognise a zip archive or a pickle, torch.save's new and old forms, or a safetensors file."""
    return beginning.startswith((b"PK\x03\x04", b"\x80")) or beginning[8:9] == b"{"


def _check(source: str, path: Path, found: str, expected: str) -> None:
    if expected and found != expected.lower():
        raise InputError(
            f"{source}: its SHA-256 is {found}, not {expected}; it is damaged, or not the file you meant"
            + (f" (remove {path} to fetch it again)" if is_url(source) and path.exists() else "")
        )


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read tensors by name, on the CPU, from a ``.safetensors`` file or one of ``torch.save``.

    The latter holds a state dict, or a dict with one under ``model`` or ``state_dict``. It is read with
    ``weights_only=True``: a file that needs anything else is refused.

    Raises:
        InputError: if the file cannot be read, or holds something else, or values that are not finite.
    """
    tensors = _tensors(path)
    bad = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    if bad:
        raise InputError(
            f"{path}: {len(bad)} of {len(tensors)} tensors hold values that are NaN or infinite, such as "
            f"{', '.join(bad[:3])}: what was saved had diverged, or the file is damaged"
        )
    return tensors


def _tensors(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        try:
            tensors = load_file(path)
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path}: not a whole safetensors file ({error})") from error
        require_sound(path)
        return tensors
    content = _load(path)
    state = next((content[key] for key in HOLDERS if isinstance(content.get(key), dict)), content)
    others = [str(name) for name, value in state.items() if not isinstance(value, Tensor)]
    if others or not state:
        raise InputError(
            f"{path}: expected a state dict, alone or under {' or '.join(map(repr, HOLDERS))}; found "
            f"{', '.join(sorted(others)[:5]) or 'nothing'}"
        )
    return {str(name): tensor for name, tensor in state.items()}


def _load(path: Path) -> dict[Any, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"{path}: not a file of plain weights as torch.save writes it: it is damaged, or holds code that "
            f"is not run ({reason})"
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a dict of tensors, found a {type(content).__name__}")
    return content
