"""safetensors files whose bytes depend on their content only.

The library writes metadata in an order that differs from process to process; DVC would then take
every export for a new one and run all that follows again.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

LENGTH_BYTES = 8  # the file's first bytes: length of the JSON header, little-endian
ALIGNMENT = 8  # of the header's end, padded with spaces


def save_stable(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], path: Path) -> None:
    """Write contiguous ``tensors`` and ``metadata`` to ``path``, equal bytes for equal content."""
    content = memoryview(save(dict(tensors), metadata=dict(metadata)))
    end = LENGTH_BYTES + int.from_bytes(content[:LENGTH_BYTES], "little")
    header = json.loads(bytes(content[LENGTH_BYTES:end]))
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(LENGTH_BYTES, "little"))
        file.write(text)
        file.write(content[end:])


def tensors_sha256(path: Path) -> str:
    """SHA-256 of a file's tensors, in hexadecimal, whatever its header says besides."""
    with open(path, "rb") as file:
        file.seek(int.from_bytes(file.read(LENGTH_BYTES), "little"), 1)
        return hashlib.file_digest(file, "sha256").hexdigest()
