"""safetensors files whose bytes depend on their content only, and which notice that they are damaged.

The library writes metadata in an order that differs from process to process; DVC would then take
every export for a new one and run all that follows again. And it does not see a flipped bit: the
metadata hold a SHA-256 over all tensors, under ``sha256``.
"""

import hashlib
import json
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from components.core.errors import InputError
from components.core.files import parse_json

LENGTH_BYTES = 8  # the file's first bytes: length of the JSON header, little-endian
ALIGNMENT = 8  # of the header's end, padded with spaces
METADATA = "__metadata__"  # where the header has them, beside the tensors
DIGEST = "sha256"


def save_stable(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], path: Path) -> None:
    """Write contiguous ``tensors`` and ``metadata`` to ``path``, equal bytes for equal content."""
    content = memoryview(save(dict(tensors), metadata=dict(metadata)))
    header, end = _header(content)
    header.setdefault(METADATA, {})[DIGEST] = _digest(header, content[end:])
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(LENGTH_BYTES, "little"))
        file.write(text)
        file.write(content[end:])


def tensors_sha256(path: Path) -> str:
    """Return SHA-256 of a file's tensors, in hexadecimal, whatever its header says besides."""
    header, data = _read(path)
    return _digest(header, data)


def require_sound(path: Path) -> None:
    """Hold a whole safetensors file against the digest in it; files of others, without one, are passed.

    Raises:
        InputError: if its tensors are not those that were written.
    """
    header, data = _read(path)
    expected = header.get(METADATA, {}).get(DIGEST)
    if expected is not None and expected != _digest(header, data):
        raise InputError(
            f"{path}: damaged: its tensors are not those that were written, by the SHA-256 in it; write or "
            "fetch it again, and test the disk if you did not change it"
        )


def _read(path: Path) -> tuple[dict[str, Any], memoryview]:
    """Return the header and, mapped, the tensors' bytes of a whole file."""
    with open(path, "rb") as file:
        content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    header, end = _header(content)
    return header, content[end:]


def _header(content: memoryview) -> tuple[dict[str, Any], int]:
    """Return a safetensors file's header, and where the tensors' bytes begin."""
    end = LENGTH_BYTES + int.from_bytes(content[:LENGTH_BYTES], "little")
    header: dict[str, Any] = parse_json(bytes(content[LENGTH_BYTES:end]))
    return header, end


def _digest(header: Mapping[str, Any], data: memoryview) -> str:
    """Return SHA-256 over the tensors by name, with types and shapes, whatever their order in the file."""
    digest = hashlib.sha256()
    for name in sorted(header.keys() - {METADATA}):
        tensor = header[name]
        begin, end = tensor["data_offsets"]
        digest.update(json.dumps([name, tensor["dtype"], tensor["shape"]]).encode())
        digest.update(data[begin:end])
    return digest.hexdigest()
