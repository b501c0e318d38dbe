import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from components.core.errors import InputError
from components.core.tensor_files import save_stable
from components.export.zoo.tensors import read_tensors

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        {"model": OrderedDict(STATE), "iteration": 500000, "optimizer": {"state": {}, "param_groups": []}},
        {"state_dict": STATE, "epoch": 200, "arch": "resnet50"},
    ],
)
def test_state_dicts_wherever_they_are(tmp_path: Path, content: dict) -> None:
    torch.save(content, tmp_path / "x.pth")
    assert {name: tensor.tolist() for name, tensor in read_tensors(tmp_path / "x.pth").items()} == {
        name: tensor.tolist() for name, tensor in STATE.items()
    }


def test_files_of_old_torch_and_safetensors(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file(STATE, tmp_path / "x.safetensors")
    for name in ("old.pth", "x.safetensors"):
        assert torch.equal(read_tensors(tmp_path / name)["a.weight"], STATE["a.weight"])


def test_a_flipped_bit_in_a_file_of_ours_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_stable(STATE, {}, path)
    assert torch.equal(read_tensors(path)["a.weight"], STATE["a.weight"])
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.safetensors: damaged"):
        read_tensors(path)


class Harm:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("harm"),))


def test_code_in_a_file_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": STATE, "extra": Harm()}, tmp_path / "x.pth")
    with pytest.raises(InputError, match=r"x\.pth: not a file of plain weights"):
        read_tensors(tmp_path / "x.pth")
    assert not Path("harm").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a file of plain weights"),
        (b"<html>sign in</html>", "not a file of plain weights"),
        (pickle.dumps({"a": 1}), "expected a state dict|not a file of plain weights"),
    ],
)
def test_other_files(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_tensors(tmp_path / "x.pth")
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(InputError, match="not a whole safetensors file"):
        read_tensors(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.ones(1)], "found a list"),
        ({"model": {"a": torch.ones(1), "b": "text"}}, "found b"),
        ({}, "found nothing"),
        ({"epoch": 3, "net": STATE}, "found epoch, net"),
    ],
)
def test_other_contents(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(InputError, match=message):
        read_tensors(tmp_path / "x.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_named(tmp_path: Path, value: float) -> None:
    torch.save(STATE | {"c.weight": torch.tensor([1.0, value]), "steps": torch.tensor(3)}, tmp_path / "x.pth")
    with pytest.raises(InputError, match=r"1 of 4 tensors hold values that are NaN or infinite.*c\.weight"):
        read_tensors(tmp_path / "x.pth")
