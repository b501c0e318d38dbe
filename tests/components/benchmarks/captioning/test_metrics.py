import json
import lzma
from pathlib import Path

import numpy as np
import pytest

from components.benchmarks.captioning.java_metrics import NotRun, Result, Texts
from components.benchmarks.captioning.metrics import METRICS, score_captions
from components.core.errors import InputError

REFERENCES = {
    "coco/1": ["A red circle above a blue square.", "A circle over a square"],
    "coco/2": ["Two green stars on a grey field"],
    "coco/3": ["A yellow triangle behind a large hexagon."],
}


PYTHON = {names: metric for names, metric in METRICS.items() if not {"METEOR", "SPICE"} & set(names)}


def test_a_perfect_caption_scores_highest_and_a_foreign_one_nothing() -> None:
    scores = score_captions(
        REFERENCES,
        {"coco/1": "a red circle above a blue square", "coco/2": "cat", "coco/3": "a yellow circle"},
        PYTHON,
    )
    perfect, foreign, near = (scores.images[image_id] for image_id in REFERENCES)
    assert perfect["CIDEr-D"] > near["CIDEr-D"] > foreign["CIDEr-D"] == 0.0
    assert perfect["ROUGE-L"] == pytest.approx(100.0)
    assert perfect["BLEU-4"] == pytest.approx(100.0)
    for name in ("CIDEr-D", "ROUGE-L"):
        assert scores.corpus[name] == pytest.approx(np.mean([row[name] for row in scores.images.values()]))


def test_case_and_punctuation_do_not_count() -> None:
    captions = {key: texts[0] for key, texts in REFERENCES.items()}
    plain = score_captions(REFERENCES, captions, PYTHON)
    loud = score_captions(REFERENCES, {key: text.upper() + "!" for key, text in captions.items()}, PYTHON)
    assert loud == plain


def test_empty_captions_score_nothing() -> None:
    scores = score_captions(REFERENCES, dict.fromkeys(REFERENCES, ""), PYTHON)
    assert list(scores.corpus.values()) == pytest.approx([0.0] * 6, abs=1e-6)


@pytest.mark.parametrize(
    ("references", "hypotheses", "message"),
    [
        ({}, {}, "no captions to score"),
        ({"a": ["x"]}, {}, "first 'a'"),
        ({"a": ["x"]}, {"a": "x", "b": "y"}, "first 'b'"),
        ({"a": []}, {"a": "x"}, "no reference captions, first 'a'"),
    ],
)
def test_refuses_incomplete_sets(
    references: dict[str, list[str]], hypotheses: dict[str, str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        score_captions(references, hypotheses)


def test_a_metric_that_cannot_run_is_absent_with_its_reason() -> None:
    def absent(references: Texts, hypotheses: Texts) -> Result:
        raise NotRun("there is no java")

    scores = score_captions({"a": ["x"]}, {"a": "x"}, {("METEOR",): absent, **PYTHON})
    assert scores.not_run == {"METEOR": "there is no java"}
    assert "METEOR" not in scores.corpus
    assert list(scores.images["a"]) == list(scores.corpus)
    assert score_captions({"a": ["x"]}, {"a": "x"}, PYTHON).not_run == {}


@pytest.mark.usefixtures("no_java")
def test_a_java_that_is_not_there_is_told_in_one_line() -> None:
    with pytest.raises(
        InputError, match=r"captions cannot be scored: there is no java in JAVA_HOME=.*; unset"
    ):
        score_captions({"a": ["x y"]}, {"a": "x y"})


@pytest.mark.integration
def test_every_machine_has_meteor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    scores = score_captions({"a": ["x y"]}, {"a": "x y"})
    assert set(scores.corpus) == {*(name for names in PYTHON for name in names), "METEOR"}
    assert scores.corpus["METEOR"] > 50


def test_reproduces_the_published_example_evaluation(shared_dir: Path) -> None:
    folder = shared_dir / "data" / "real" / "caption_metrics"
    record = json.loads((folder / "EXPECTED.json").read_bytes())
    results = json.loads((folder / "captions_val2014_fakecap_results.json").read_bytes())
    hypotheses = {str(row["image_id"]): row["caption"] for row in results}
    references: dict[str, list[str]] = {image_id: [] for image_id in hypotheses}
    for row in json.loads(lzma.decompress((folder / "captions_val2014.json.xz").read_bytes()))["annotations"]:
        if str(row["image_id"]) in references:
            references[str(row["image_id"])].append(row["caption"])
    scores = score_captions(references, hypotheses)
    corpus = scores.corpus
    assert set(scores.not_run) <= {"SPICE"}
    measured = record["measured_here_pycocoevalcap_1.2_on_the_rebuilt_file"]
    for ours, theirs in {
        "CIDEr-D": "CIDEr", "BLEU-1": "Bleu_1", "BLEU-2": "Bleu_2", "BLEU-3": "Bleu_3", "BLEU-4": "Bleu_4",
        "ROUGE-L": "ROUGE_L", "METEOR": "METEOR",
    }.items():  # fmt: skip
        assert corpus[ours] / 100 == pytest.approx(measured[theirs], abs=5e-5), ours
        assert round(corpus[ours] / 100, 3) == pytest.approx(record["expected_notebook"][theirs], abs=6e-4)
