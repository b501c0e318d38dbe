import csv
import json
from pathlib import Path
from typing import Any

import pytest

from components import params
from components.core import paths
from components.core.caption_tokens import SOS_ID
from components.core.errors import InputError
from components.sources.manifest import write_parts
from components.sources.origins import verify_folders
from components.sources.readers.types import DatasetFolders
from components.stages import tokenize
from components.text.document_frequencies import read_weights
from components.text.tokenizer import CaptionTokenizer
from components.tracking import StageRun

TRAIN = ["A Réd dog on a mat.", "Two dogs, left of a red cat", "a CAT on a mat"]
VAL = ["a dog", "a zebra"]

pytestmark = pytest.mark.integration


class RecordedRun(StageRun):
    """A run without MLflow that keeps its texts and artifacts."""

    def __init__(self) -> None:
        output_dir = paths.stage_dir("tokenize")
        output_dir.mkdir(parents=True, exist_ok=True)
        super().__init__("tokenize", None, output_dir, None)
        self.texts: dict[str, str] = {}
        self.artifacts: list[str] = []

    def text(self, text: str, name: str) -> None:
        self.texts[name] = text

    def artifact(self, path: Path, folder: str | None = None) -> None:
        assert path.is_file()
        self.artifacts.append(path.name)


def textual_head(max_caption_length: int) -> params.TextualHead:
    return params.TextualHead(
        hidden_size=64,
        num_layers=1,
        attention_heads=None,
        feedforward_size=None,
        norm="post",
        dropout=0.1,
        max_caption_length=max_caption_length,
    )


def write_captions(root: Path, split: str, captions: list[str]) -> None:
    folder = root / f"{split}2017"
    folder.mkdir(parents=True)
    for index in range(len(captions)):
        (folder / f"{index}.jpg").touch()
    (root / "annotations").mkdir(exist_ok=True)
    parsed: dict[str, Any] = {
        "images": [{"id": index, "file_name": f"{index}.jpg"} for index in range(len(captions))],
        "annotations": [{"image_id": index, "caption": text} for index, text in enumerate(captions)],
    }
    (root / "annotations" / f"captions_{split}2017.json").write_text(json.dumps(parsed))


@pytest.fixture(autouse=True)
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_captions(Path("mine"), "train", TRAIN)
    write_captions(Path("mine"), "val", VAL)
    manifest, _ = verify_folders(DatasetFolders({"mine": Path("mine")}), "folders")
    write_parts(paths.DATASETS_DIR, manifest)


def test_tokenizer_and_report() -> None:
    run = RecordedRun()
    tokenize.main(run, params.Tokenize(vocab_size=30), textual_head(max_caption_length=8))

    tokenizer = CaptionTokenizer(paths.TOKENIZER_MODEL)
    assert tokenizer.vocab_size == 30
    assert tokenizer.decode(tokenizer.caption_tokens("A RED dog", 30)) == "a red dog"
    assert "é" not in paths.TOKENIZER_MODEL.with_suffix(".vocab").read_text(encoding="utf-8")

    assert read_weights(paths.DOCUMENT_FREQUENCIES, 30)[SOS_ID] == 0.0
    metrics = json.loads((run.output_dir / "metrics.json").read_text(encoding="utf-8"))
    lengths = [len(tokenizer.caption_tokens(caption, 999)) for caption in TRAIN]
    assert metrics["vocab_size"] == 30
    assert metrics["train"]["captions"] == 3
    assert metrics["train"]["tokens_mean"] == pytest.approx(sum(lengths) / 3)
    assert metrics["train"]["tokens_max"] == max(lengths)
    assert metrics["train"]["truncated_share"] == pytest.approx(sum(length > 8 for length in lengths) / 3)
    assert metrics["train"]["unknown_rate"] == 0.0
    assert metrics["val"]["captions"] == 2
    assert metrics["val"]["unknown_rate"] > 0.0  # the z and b of "zebra" are in no training caption

    with (run.output_dir / "lengths.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["tokens", "captions"]
    assert sum(int(row["captions"]) for row in rows) == 3
    assert sorted(run.artifacts) == ["captions.model", "lengths.csv"]
    sample = run.texts["tokenised_captions.txt"]
    assert all(caption in sample for caption in TRAIN)
    assert "zebra" not in sample


def test_same_captions_same_bytes() -> None:
    tokenize.main(RecordedRun(), params.Tokenize(vocab_size=30), textual_head(30))
    before = paths.TOKENIZER_MODEL.read_bytes()
    tokenize.main(RecordedRun(), params.Tokenize(vocab_size=30), textual_head(30))
    assert paths.TOKENIZER_MODEL.read_bytes() == before


def test_too_large_a_vocabulary_leaves_the_old_one() -> None:
    tokenize.main(RecordedRun(), params.Tokenize(vocab_size=30), textual_head(30))
    before = paths.TOKENIZER_MODEL.read_bytes()
    with pytest.raises(
        InputError, match=r"tokenize\.vocab_size: 10000 is too large .* largest possible is \d+"
    ):
        tokenize.main(RecordedRun(), params.Tokenize(vocab_size=10000), textual_head(30))
    assert paths.TOKENIZER_MODEL.read_bytes() == before


def test_real_captions(shared_dir: Path) -> None:
    real = shared_dir / "data" / "real"
    manifest, _ = verify_folders(DatasetFolders({"flickr8k": real / "flickr8k"}), "folders")
    write_parts(paths.DATASETS_DIR, manifest)
    run = RecordedRun()
    tokenize.main(run, params.Tokenize(vocab_size=2000), textual_head(30))
    metrics = json.loads((run.output_dir / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["vocab_size"] == 2000
    assert metrics["train"]["captions"] == 23000
    assert 10 < metrics["train"]["tokens_mean"] < 20
    assert metrics["val"]["unknown_rate"] < 0.001
