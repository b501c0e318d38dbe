from pathlib import Path

import pytest
import safetensors
import torch
from safetensors.torch import load_file, save_file

from components.core.errors import InputError
from components.core.tensor_files import require_sound, save_stable

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
        found = file.metadata()
    assert len(found.pop("sha256")) == 64
    assert found == METADATA
    require_sound(path)


def test_equal_content_gives_equal_bytes_whatever_its_order(tmp_path: Path) -> None:
    files = [tmp_path / name for name in "abc"]
    for file in files[:2]:
        save_stable(TENSORS, METADATA, file)
    save_stable(dict(reversed(TENSORS.items())), dict(reversed(METADATA.items())), files[2])
    assert len({file.read_bytes() for file in files}) == 1


def test_a_flipped_bit_is_noticed_wherever_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_stable(TENSORS, METADATA, path)
    written = path.read_bytes()
    end = 8 + int.from_bytes(written[:8], "little")
    for place in range(end, len(written)):
        path.write_bytes(bytes([*written[:place], written[place] ^ 1, *written[place + 1 :]]))
        with pytest.raises(InputError, match=r"x\.safetensors: damaged: .*SHA-256"):
            require_sound(path)


def test_files_without_a_digest_are_passed(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "plain.safetensors")
    save_file(TENSORS, tmp_path / "older.safetensors", {"format": "virtex-backbone"})
    for name in ("plain", "older"):
        require_sound(tmp_path / f"{name}.safetensors")


def test_a_file_rewritten_by_the_library_is_still_sound(tmp_path: Path) -> None:
    """Which orders tensors and metadata otherwise, and means the same."""
    path = tmp_path / "x.safetensors"
    save_stable(TENSORS, METADATA, path)
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file(dict(reversed(load_file(path).items())), tmp_path / "again.safetensors", metadata)
    require_sound(tmp_path / "again.safetensors")


def test_an_older_digest_is_not_carried_on(tmp_path: Path) -> None:
    save_stable(TENSORS, {"sha256": "0" * 64}, tmp_path / "x.safetensors")
    require_sound(tmp_path / "x.safetensors")
