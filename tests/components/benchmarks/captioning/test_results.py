"""What the captioning benchmark says beside its scores."""

import numpy as np
import pytest

from components.benchmarks.captioning.metrics import CaptionScores
from components.benchmarks.captioning.results import Measured, ScoredCaption


def measured(*captions: str) -> Measured:
    """The n-th caption scores 10 n."""
    ids = [f"world/{number}" for number in range(len(captions))]
    entries = [
        ScoredCaption(image_id, text, -1.0, ("a dog",), 10.0 * number)
        for number, (image_id, text) in enumerate(zip(ids, captions, strict=True))
    ]
    images = {entry.image_id: {"CIDEr-D": entry.cider, "METEOR": 50.0} for entry in entries}
    corpus = {"CIDEr-D": float(np.mean([entry.cider for entry in entries])), "METEOR": 40.0}
    return Measured(entries, CaptionScores(corpus, images, {"SPICE": "away"}))


def test_different_captions_are_counted_and_the_most_frequent_one_named() -> None:
    found = measured("a dog", "a cat", "a dog", "a dog", "a bird")
    assert found.most_frequent == ("a dog", pytest.approx(60))
    assert found.figures()["distinct_captions"] == 3
    assert found.figures()["most_frequent_share"] == pytest.approx(60)
    assert found.diversity == "Warning: 60 % of the images get the same caption, 'a dog'"
    half = measured("a dog", "a dog", "a cat", "a bird").diversity
    assert half == "3 captions differ; the most frequent one, 'a dog', has 50.0 % of the images"


def test_scores_that_are_means_have_bounds() -> None:
    by_image = measured(*(f"caption {number}" for number in range(100))).by_image()
    assert by_image.images[1] == "world/1"
    bounds = by_image.intervals()
    assert set(bounds) == {"CIDEr-D"}  # METEOR of a set is no mean over images, SPICE is not known
    error = 10 * np.std(np.arange(100)) / 10  # of the mean 495
    assert bounds["CIDEr-D"]["low"] == pytest.approx(495 - 1.96 * error, abs=0.2 * error)
    assert bounds["CIDEr-D"]["high"] == pytest.approx(495 + 1.96 * error, abs=0.2 * error)
    assert set(by_image.results) == {"CIDEr-D", "METEOR"}
