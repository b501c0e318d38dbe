"""Scores of captions against references, as the COCO caption evaluation computes them.

The scorers and the tokenizer are pycocoevalcap's. METEOR and SPICE are Java programs: where one cannot
run, its scores are absent and the reason is given.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from components.benchmarks.captioning.java_metrics import (
    Metric,
    NotRun,
    Result,
    Texts,
    caption_words,
    meteor,
    spice,
)
from components.core.errors import InputError


@dataclass(frozen=True, slots=True)
class CaptionScores:
    """Scores by metric, in percent: CIDEr-D 94.0 is what the library calls 0.940.

    Attributes:
        corpus: the score of the whole set.
        images: the score of each image, by image id. Their mean is the corpus score, but for BLEU,
            which counts n-grams over the whole set, and METEOR, which weighs statistics of it.
        not_run: why a metric is in neither, by metric.
    """

    corpus: dict[str, float]
    images: dict[str, dict[str, float]]
    not_run: dict[str, str]


def score_captions(
    references: Mapping[str, Sequence[str]],
    hypotheses: Mapping[str, str],
    metrics: Mapping[tuple[str, ...], Metric] | None = None,
) -> CaptionScores:
    """Score one caption per image with every metric that this machine can run.

    CIDEr-D weighs words by how many images' references have them, so a caption's score depends on
    the set it is scored in, and with a single image it is 0.

    Args:
        references: the captions people wrote, as written, by image id.
        hypotheses: the caption to score, by image id.
        metrics: None for METRICS.

    Raises:
        InputError: if there are no captions, an image lacks its hypothesis or references, or the tokenizer's
            Java program fails.
    """
    _check(references, hypotheses)
    image_ids = list(references)
    reference_texts, hypothesis_texts = _tokenized(references, hypotheses)
    corpus: dict[str, float] = {}
    images: dict[str, dict[str, float]] = {image_id: {} for image_id in image_ids}
    not_run: dict[str, str] = {}
    for names, metric in (METRICS if metrics is None else metrics).items():
        try:
            totals, rows = metric(reference_texts, hypothesis_texts)
        except NotRun as reason:
            not_run |= dict.fromkeys(names, str(reason))
            continue
        for name, total, row in zip(names, totals, rows, strict=True):
            corpus[name] = 100.0 * float(total)
            for image_id, value in zip(image_ids, row, strict=True):
                images[image_id][name] = 100.0 * float(value)
    return CaptionScores(corpus, images, not_run)


def _tokenized(references: Mapping[str, Sequence[str]], hypotheses: Mapping[str, str]) -> tuple[Texts, Texts]:
    captions = [caption for texts in references.values() for caption in texts]
    captions += [hypotheses[image_id] for image_id in references]
    try:
        words = iter(caption_words(captions))
    except NotRun as reason:
        raise InputError(f"captions cannot be scored: {reason}") from reason
    reference_texts = {image_id: [next(words) for _ in texts] for image_id, texts in references.items()}
    return reference_texts, {image_id: [next(words)] for image_id in references}


def _check(references: Mapping[str, Sequence[str]], hypotheses: Mapping[str, str]) -> None:
    if not references:
        raise InputError("there are no captions to score; expected references for at least one image")
    if lone := sorted(references.keys() ^ hypotheses.keys()):
        raise InputError(
            f"{len(lone)} images have a caption or references but not both, first {lone[0]!r}; "
            "expected one caption for each image with references"
        )
    if bare := [image_id for image_id, captions in references.items() if not captions]:
        raise InputError(f"{len(bare)} images have no reference captions, first {bare[0]!r}; leave them out")


def _cider(references: Texts, hypotheses: Texts) -> Result:
    total, scores = Cider().compute_score(references, hypotheses)
    return [total], [scores]


def _bleu(references: Texts, hypotheses: Texts) -> Result:
    totals, scores = Bleu(4).compute_score(references, hypotheses, verbose=0)
    return totals, scores


def _rouge(references: Texts, hypotheses: Texts) -> Result:
    total, scores = Rouge().compute_score(references, hypotheses)
    return [total], [scores]


METRICS: Mapping[tuple[str, ...], Metric] = {
    ("CIDEr-D",): _cider,
    ("SPICE",): spice,
    ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4"): _bleu,
    ("METEOR",): meteor,
    ("ROUGE-L",): _rouge,
}
