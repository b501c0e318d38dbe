from dataclasses import replace
from pathlib import Path

import pytest
import torch

from components.core.errors import InputError
from components.export.zoo import weights
from components.export.zoo.weights import open_weights


def test_a_published_model_comes_from_its_address(
    file_server, small_model, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "bicaptioning_R_50_L1_H2048"
    torch.save({"model": small_model("bicaptioning").state_dict()}, file_server.folder / f"{name}.pth")
    served = replace(weights.ZOO[name], url=f"{file_server.url}/{name}.pth")
    monkeypatch.setitem(weights.ZOO, name, served)
    assert "visual.cnn.conv1.weight" in open_weights(name)
    with pytest.raises(InputError, match="SHA-256"):
        open_weights(f"{name}#sha256={'0' * 64}")


def test_a_damaged_file_that_was_fetched_says_how_to_be_rid_of_it(file_server) -> None:
    (file_server.folder / "x.pth").write_bytes(b"\x80\x02gone")
    with pytest.raises(InputError, match=r"-x\.pth: not a file of plain weights.*remove the file"):
        open_weights(f"{file_server.url}/x.pth")


def test_neither_a_file_nor_a_model() -> None:
    with pytest.raises(InputError, match=r"published model .did you mean `bicaptioning_R_50_L1_H512`"):
        open_weights("bicaptioning_R_50_L1_H511")
    with pytest.raises(InputError, match=r"models/x\.pth: no such file"):
        open_weights("models/x.pth")


def test_a_file_of_a_plain_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"a": torch.ones(1)}, "weights")
    assert list(open_weights("weights")) == ["a"]
