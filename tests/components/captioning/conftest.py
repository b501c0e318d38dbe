"""A small untrained captioner, in memory and as a file, and some photographs."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_captioner import captioner, captioner_path, make_config, tokenizer_path  # noqa: F401


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A folder: a.png, b.JPG, sub/a.png, sub/broken.jpg, notes.txt, and hidden files."""
    folder = tmp_path / "photographs"
    for index, name in enumerate(("b.JPG", "a.png", "sub/a.png", ".hidden.png", ".cache/c.png")):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(index).integers(0, 255, (70, 90, 3), np.uint8)).save(path)
    (folder / "sub" / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    (folder / "notes.txt").write_text("no image")
    return folder
