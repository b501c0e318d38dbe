from pathlib import Path

import safetensors
import torch
from safetensors.torch import load_file

from components.stable_safetensors import save_stable

TENSORS = {"weight": torch.randn(3, 5), "count": torch.tensor(7), "half": torch.ones(3, dtype=torch.float16)}
METADATA = {f"key {i}": f"wört {i}" for i in range(12)}


def test_gives_back_tensors_and_metadata(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_stable(TENSORS, METADATA, path)
    loaded = load_file(path)
    assert loaded.keys() == TENSORS.keys()
    assert all(torch.equal(loaded[name], TENSORS[name]) for name in TENSORS)
    assert {tensor.dtype for tensor in loaded.values()} == {torch.float32, torch.int64, torch.float16}
    with safetensors.safe_open(path, framework="pt") as file:
        assert file.metadata() == METADATA


def test_equal_content_gives_equal_bytes_whatever_its_order(tmp_path: Path) -> None:
    files = [tmp_path / name for name in "abc"]
    for file in files[:2]:
        save_stable(TENSORS, METADATA, file)
    save_stable(dict(reversed(TENSORS.items())), dict(reversed(METADATA.items())), files[2])
    assert len({file.read_bytes() for file in files}) == 1
