import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from components.core.errors import InputError
from components.models.decoding import beam_search
from components.objectives.build import ModelConfig, build_objective
from components.objectives.captioning import CaptioningObjective
from components.objectives.saved import (
    Preprocessing,
    copy_captioner,
    load_captioner,
    load_preprocessing,
    save_captioner,
)

ConfigMaker = Callable[..., ModelConfig]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, make_config: ConfigMaker) -> Path:
    torch.manual_seed(0)
    config = make_config("bicaptioning", norm="pre")
    path = tmp_path_factory.mktemp("written") / "captioner.safetensors"
    save_captioner(path, build_objective(config).to(memory_format=torch.channels_last), config)
    return path


@pytest.fixture
def saved(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(written, tmp_path))


def header(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return file.metadata()


@pytest.mark.parametrize("share", [0.3, 0.5, 0.999])
def test_a_flipped_bit_is_noticed(saved: Path, share: float) -> None:
    content = bytearray(saved.read_bytes())
    content[int(share * len(content))] ^= 1
    saved.write_bytes(content)
    with pytest.raises(InputError, match=r"captioner\.safetensors: damaged"):
        load_captioner(saved)
    with pytest.raises(InputError, match=r"captioner\.safetensors: damaged"):
        copy_captioner(saved, saved.with_name("copy.safetensors"), None, True)


def test_round_trip_with_tied_weights(saved: Path, make_config: ConfigMaker) -> None:
    torch.manual_seed(0)
    original = build_objective(make_config("bicaptioning", norm="pre")).eval()
    random_state = torch.get_rng_state()
    objective, config = load_captioner(saved)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert config == make_config("bicaptioning", norm="pre")
    assert not objective.training
    expected = original.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in objective.state_dict().items())
    words = objective.get_parameter("textual.embedding.words.weight")
    for name in ("textual.output.weight", "backward_textual.embedding.words.weight"):
        assert objective.get_parameter(name) is words
    assert isinstance(objective, CaptioningObjective)
    assert isinstance(original, CaptioningObjective)
    images = torch.randn(2, 3, 64, 64)
    found, expected = (beam_search(m.textual, m.visual(images)).tokens for m in (objective, original))
    assert torch.equal(found, expected)


def test_shared_tensors_are_stored_once(saved: Path) -> None:
    stored = load_file(saved)
    assert "textual.embedding.words.weight" in stored
    assert "textual.output.weight" not in stored
    assert {name.split(".")[1] for name in stored if name.startswith("backward")} == {"transformer"}
    assert header(saved)["format"] == "virtex-captioner"
    assert header(saved)["version"] == "1"


@pytest.mark.parametrize(
    "name",
    [
        "captioning",
        "masked_lm",
        "token_classification",
        "multilabel_classification",
        "parallel_bicaptioning",
        "idf_token_classification",
        "contrastive_classification",
    ],
)
def test_every_objective_is_saved(name: str, tmp_path: Path, make_config: ConfigMaker) -> None:
    config = make_config(name)
    objective = build_objective(config)
    save_captioner(tmp_path / "model.safetensors", objective, config)
    loaded, _ = load_captioner(tmp_path / "model.safetensors")
    assert type(loaded) is type(objective)
    expected = objective.state_dict()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in loaded.state_dict().items())


def test_what_captioning_needs_travels_in_the_file(tmp_path: Path, make_config: ConfigMaker) -> None:
    config = make_config("captioning")
    objective = build_objective(config)
    preprocessing = Preprocessing(224, bytes(range(256)) * 3)
    for name in ("model", "again"):
        save_captioner(tmp_path / name, objective, config, preprocessing)
    assert (tmp_path / "model").read_bytes() == (tmp_path / "again").read_bytes()
    assert load_preprocessing(tmp_path / "model") == preprocessing
    loaded, _ = load_captioner(tmp_path / "model")
    assert loaded.state_dict().keys() == objective.state_dict().keys()


def test_a_file_from_before_captions_as_it_was_measured(tmp_path: Path, make_config: ConfigMaker) -> None:
    path = tmp_path / "captioner.safetensors"
    config = make_config("captioning")
    save_captioner(path, build_objective(config), config, Preprocessing(224, b"model", 256, antialias=False))
    assert load_preprocessing(path) == Preprocessing(224, b"model", 256, antialias=False)
    kept = {key: value for key, value in header(path).items() if key not in ("image_size", "antialias")}
    save_file(load_file(path), path, metadata=kept)
    preprocessing = load_preprocessing(path)
    assert preprocessing == Preprocessing(224, b"model")
    assert preprocessing.scale == 224


def test_a_file_may_hold_the_model_alone(saved: Path) -> None:
    assert load_preprocessing(saved) is None


def test_a_preparation_is_checked(tmp_path: Path, make_config: ConfigMaker) -> None:
    path = tmp_path / "captioner.safetensors"
    config = make_config("captioning")
    save_captioner(path, build_objective(config), config, Preprocessing(224, b"model"))
    save_file(load_file(path), path, metadata=header(path) | {"crop_size": "wide"})
    with pytest.raises(InputError, match="crop_size 'wide' in its header"):
        load_preprocessing(path)
    save_file(load_file(path), path, metadata=header(path) | {"crop_size": "224", "image_size": "32"})
    with pytest.raises(InputError, match="image_size 32 in its header is less than crop_size 224"):
        load_preprocessing(path)
    save_file(load_file(path), path, metadata=header(path) | {"format": "virtex-backbone"})
    with pytest.raises(InputError, match="expected a file of format 'virtex-captioner'"):
        load_preprocessing(path)


def test_a_failed_write_leaves_the_old_file(
    saved: Path, make_config: ConfigMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved.read_bytes()

    def full_disk(tensors: object, metadata: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr("components.objectives.saved.save_stable", full_disk)
    config = make_config("captioning")
    with pytest.raises(OSError, match="no space"):
        save_captioner(saved, build_objective(config), config)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_captioner(tmp_path / "none.safetensors")


@pytest.mark.parametrize("keep", [0, 5, 4000])
def test_damaged_file(saved: Path, keep: int) -> None:
    saved.write_bytes(saved.read_bytes()[:keep])
    with pytest.raises(InputError, match="not a whole safetensors file"):
        load_captioner(saved)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "virtex-backbone"}, "expected a file of format 'virtex-captioner'"),
        ({"version": "2"}, "version '2' is unknown"),
        ({"config": "{}"}, "configuration in its header is not valid"),
        ({"config": ""}, "configuration in its header is not valid"),
    ],
)
def test_wrong_header(saved: Path, changes: dict[str, str], message: str) -> None:
    save_file(load_file(saved), saved, metadata=header(saved) | changes)
    with pytest.raises(InputError, match=message):
        load_captioner(saved)


def test_a_file_without_header(saved: Path) -> None:
    save_file(load_file(saved), saved)
    with pytest.raises(InputError, match="found None"):
        load_captioner(saved)


def test_tensors_of_another_model(saved: Path, make_config: ConfigMaker) -> None:
    stored = load_file(saved)
    wider = header(saved) | {
        "config": make_config("bicaptioning", norm="pre", vocab_size=7).model_dump_json()
    }
    save_file(stored, saved, metadata=wider)
    with pytest.raises(InputError, match=r"words.weight has shape \(120, 64\) where \(7, 64\)"):
        load_captioner(saved)
    del stored["textual.output.bias"]
    save_file(stored, saved, metadata=wider)
    with pytest.raises(InputError, match=r"missing \['textual.output.bias'\]"):
        load_captioner(saved)
