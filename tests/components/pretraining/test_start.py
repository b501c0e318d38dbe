"""Weights to start from, by the kinds of files there are; sizes and words that differ."""

import hashlib
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from components import params
from components.core.errors import InputError
from components.export.zoo.catalogue import ZOO
from components.objectives.build import ModelConfig, build_objective
from components.objectives.saved import Preprocessing, save_captioner
from components.pretraining.start import digests, start_model
from components.text.tokenizer import CaptionTokenizer, train_tokenizer

OLD = ["a red dog on a mat", "two dogs and a cat", "a cat in the red sun"]
NEW = ["a red dog by the zoo", "seven dogs and a quick cat", "a cat in the park"]
HEAD: dict[str, Any] = {
    "hidden_size": 32, "num_layers": 1, "attention_heads": 2, "feedforward_size": 48, "norm": "post",
    "dropout": 0.1, "max_caption_length": 12,
}  # fmt: skip


def config(objective: Any, vocab_size: int, backbone: str = "resnet18", **head: Any) -> ModelConfig:
    return ModelConfig(
        backbone=params.Backbone(name=backbone, zero_init_residual=False),
        textual_head=params.TextualHead(**(HEAD | head)),
        objective=params.Objective(name=objective),
        vocab_size=vocab_size,
    )


def built(found: ModelConfig, seed: int) -> Any:
    torch.manual_seed(seed)
    return build_objective(found)


@pytest.fixture
def tokenizers(tmp_path: Path) -> tuple[CaptionTokenizer, CaptionTokenizer]:
    for name, captions, size in (("old", OLD, 30), ("new", NEW, 34)):
        train_tokenizer(captions, size, tmp_path / f"{name}.model")
    return CaptionTokenizer(tmp_path / "old.model"), CaptionTokenizer(tmp_path / "new.model")


@pytest.fixture
def old(tmp_path: Path, tokenizers: tuple[CaptionTokenizer, CaptionTokenizer]) -> Any:
    """A captioner in old.safetensors with its tokenizer."""
    model, found = built(config("captioning", 30), 1), config("captioning", 30)
    preprocessing = Preprocessing(32, (tmp_path / "old.model").read_bytes())
    save_captioner(tmp_path / "old.safetensors", model, found, preprocessing)
    return model


def begin(
    model: Any, found: ModelConfig, tokenizer: CaptionTokenizer, source: Path | str, words: Path | None = None
) -> str:
    return start_model(model, found, tokenizer, str(source), words)


def test_all_of_a_captioner_with_the_same_words(old: Any, tokenizers: Any, tmp_path: Path) -> None:
    model = built(config("captioning", 30), 2)
    said = begin(model, config("captioning", 30), tokenizers[0], tmp_path / "old.safetensors")
    assert said.endswith("its backbone; its head, all words known; nothing else starts fresh")
    assert all(torch.equal(value, old.state_dict()[key]) for key, value in model.state_dict().items())


def test_a_changed_tokenizer_goes_by_the_names_of_its_words(
    old: Any, tokenizers: Any, tmp_path: Path
) -> None:
    """And the second direction that a captioner lacks begins as the first."""
    before, after = ([t.processor.id_to_piece(i) for i in range(t.vocab_size)] for t in tokenizers)
    fresh = built(config("bicaptioning", 34), 2)
    model = built(config("bicaptioning", 34), 2)
    said = begin(model, config("bicaptioning", 34), tokenizers[1], tmp_path / "old.safetensors")
    new = set(after) - set(before)
    assert 0 < len(new) < 30
    assert f"{len(new)} of 34 words are new and start fresh; nothing else starts fresh" in said
    for name in ("textual.embedding.words.weight", "textual.output.bias"):
        for row, piece in enumerate(after):
            expected = fresh if piece in new else old
            place = row if piece in new else before.index(piece)
            assert torch.equal(model.state_dict()[name][row], expected.state_dict()[name][place])
    assert model.textual.output.weight is model.textual.embedding.words.weight
    for name, value in old.textual.transformer.state_dict().items():
        assert torch.equal(model.backward_textual.transformer.state_dict()[name], value)


def test_the_authors_checkpoint_needs_its_tokenizer(old: Any, tokenizers: Any, tmp_path: Path) -> None:
    path, found = tmp_path / "captioning.pth", config("captioning", 30)
    wide = built(config("captioning", 30, hidden_size=64, attention_heads=None), 1)  # their rule for heads
    torch.save({"model": {f"module.{key}": value for key, value in wide.state_dict().items()}}, path)
    found = config("captioning", 30, hidden_size=64, attention_heads=None)
    model = built(found, 2)
    with pytest.raises(InputError, match=r"holds no tokenizer.*pretrain\.start_tokenizer"):
        begin(model, found, tokenizers[0], path)
    with pytest.raises(InputError, match=r"34 pieces, and .* was trained with 30"):
        begin(model, found, tokenizers[0], path, tmp_path / "new.model")
    assert "all words known" in begin(model, found, tokenizers[0], path, tmp_path / "old.model")
    assert all(torch.equal(value, wide.state_dict()[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("kind", ["zoo", "zoo#sha256", "url", "url#sha256"])
def test_the_authors_checkpoint_by_name_or_url(
    kind: str,
    golden_fill: ModuleType,
    file_server: Any,
    tokenizers: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Filled by the golden rule, so that the start is what anybody can compute from the names alone."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    name, found = (
        "bicaptioning_R_50_L1_H2048",
        config("bicaptioning", 30, hidden_size=64, attention_heads=None),
    )
    theirs = golden_fill.fill_module(built(found, 1))
    path = file_server.folder / f"{name}.pth"
    torch.save({"model": theirs.state_dict(), "iteration": 500_000}, path)
    url = f"{file_server.url}/{name}.pth"
    monkeypatch.setitem(ZOO, name, replace(ZOO[name], url=url))
    source, has_checksum, _ = kind.partition("#sha256")
    source = {"zoo": name, "url": url}[source]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    model, words = built(found, 2), tmp_path / "old.model"
    if has_checksum:
        with pytest.raises(InputError, match="SHA-256"):
            begin(model, found, tokenizers[0], f"{source}#sha256={'0' * 64}", words)
        source += f"#sha256={digest}"
    assert "nothing else starts fresh" in begin(model, found, tokenizers[0], source, words)
    expected = golden_fill.fill_module(built(found, 3)).state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in model.state_dict().items())
    if kind == "url#sha256":
        assert digests(source) == {source: digest}


def test_a_captioner_of_ours_by_url(
    old: Any, tokenizers: Any, file_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    content = (tmp_path / "old.safetensors").read_bytes()
    (file_server.folder / "mine.safetensors").write_bytes(content)
    source = f"{file_server.url}/mine.safetensors?dl=1#sha256={hashlib.sha256(content).hexdigest()}"
    model = built(config("captioning", 30), 2)
    assert "all words known" in begin(model, config("captioning", 30), tokenizers[0], source)
    assert all(torch.equal(value, old.state_dict()[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_a_backbone_alone(ending: str, old: Any, tokenizers: Any, tmp_path: Path) -> None:
    path, found = tmp_path / f"resnet.{ending}", config("contrastive_classification", 30)
    cnn = dict(old.visual.cnn.state_dict())
    save_file(cnn, path) if ending == "safetensors" else torch.save(cnn, path)
    model = built(found, 2)
    said = begin(model, found, tokenizers[0], path)
    assert "its backbone; " in said
    assert "tensors start fresh" in said
    assert all(torch.equal(v, old.visual.state_dict()[k]) for k, v in model.visual.state_dict().items())
    fresh = built(found, 2)
    assert all(torch.equal(v, fresh.textual.state_dict()[k]) for k, v in model.textual.state_dict().items())


def test_a_head_of_another_kind_stays_behind(old: Any, tokenizers: Any, tmp_path: Path) -> None:
    found = config("token_classification", 30)
    model = built(found, 2)
    said = begin(model, found, tokenizers[0], tmp_path / "old.safetensors")
    assert "not its head, which is of another kind (captioning); 2 tensors start fresh" in said
    assert torch.equal(model.visual.cnn.conv1.weight, old.visual.cnn.conv1.weight)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"backbone": "resnet34"}, "is resnet18, and backbone.name is resnet34"),
        (
            {"hidden_size": 64},
            r"shape \(32, 512\) where this run has \(64, 512\); give textual_head the sizes",
        ),
        ({"max_caption_length": 20}, r"positions.weight .* has shape \(12, 32\)"),
    ],
)
def test_other_sizes_are_refused(
    old: Any, tokenizers: Any, tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    found = config("captioning", 30, **changed)
    with pytest.raises(InputError, match=message):
        begin(built(found, 2), found, tokenizers[0], tmp_path / "old.safetensors")


def test_a_changed_file_is_another_start(tmp_path: Path) -> None:
    path = tmp_path / "a.model"
    path.write_bytes(b"one")
    before = digests(str(path), None, "bicaptioning_R_50_L1_H2048")
    assert list(before) == [str(path)]
    path.write_bytes(b"two")
    assert digests(str(path)) != before
