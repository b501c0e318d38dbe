import json
import lzma
from pathlib import Path

import numpy as np
import pytest

from components.benchmarks.caption_metrics import score_captions
from components.errors import InputError

REFERENCES = {
    "coco/1": ["A red circle above a blue square.", "A circle over a square"],
    "coco/2": ["Two green stars on a grey field"],
    "coco/3": ["A yellow triangle behind a large hexagon."],
}


def test_a_perfect_caption_scores_highest_and_a_foreign_one_nothing() -> None:
    scores = score_captions(
        REFERENCES,
        {"coco/1": "a red circle above a blue square", "coco/2": "cat", "coco/3": "a yellow circle"},
    )
    perfect, foreign, near = (scores.images[image_id] for image_id in REFERENCES)
    assert perfect["CIDEr-D"] > near["CIDEr-D"] > foreign["CIDEr-D"] == 0.0
    assert perfect["ROUGE-L"] == pytest.approx(100.0)
    assert perfect["BLEU-4"] == pytest.approx(100.0)
    for name in ("CIDEr-D", "ROUGE-L"):
        assert scores.corpus[name] == pytest.approx(np.mean([row[name] for row in scores.images.values()]))


def test_case_and_punctuation_do_not_count() -> None:
    plain = score_captions(REFERENCES, {key: captions[0] for key, captions in REFERENCES.items()})
    loud = score_captions(
        REFERENCES, {key: captions[0].upper() + "!" for key, captions in REFERENCES.items()}
    )
    assert loud == plain


def test_empty_captions_score_nothing() -> None:
    scores = score_captions(REFERENCES, dict.fromkeys(REFERENCES, ""))
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


def test_reproduces_the_published_example_evaluation(shared_dir: Path) -> None:
    folder = shared_dir / "data" / "real" / "caption_metrics"
    record = json.loads((folder / "EXPECTED.json").read_bytes())
    results = json.loads((folder / "captions_val2014_fakecap_results.json").read_bytes())
    hypotheses = {str(row["image_id"]): row["caption"] for row in results}
    references: dict[str, list[str]] = {image_id: [] for image_id in hypotheses}
    for row in json.loads(lzma.decompress((folder / "captions_val2014.json.xz").read_bytes()))["annotations"]:
        if str(row["image_id"]) in references:
            references[str(row["image_id"])].append(row["caption"])
    corpus = score_captions(references, hypotheses).corpus
    measured = record["measured_here_pycocoevalcap_1.2_on_the_rebuilt_file"]
    for ours, theirs in {
        "CIDEr-D": "CIDEr", "BLEU-1": "Bleu_1", "BLEU-2": "Bleu_2", "BLEU-3": "Bleu_3", "BLEU-4": "Bleu_4",
        "ROUGE-L": "ROUGE_L",
    }.items():  # fmt: skip
        assert corpus[ours] / 100 == pytest.approx(measured[theirs], abs=5e-5), ours
        assert round(corpus[ours] / 100, 3) == pytest.approx(record["expected_notebook"][theirs], abs=6e-4)
