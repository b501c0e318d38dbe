"""Results of the captioning benchmark: captions, their scores, figures, and a picture of some of them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from components.benchmarks.captioning.metrics import CaptionScores
from components.benchmarks.shared.files import Run
from components.benchmarks.shared.intervals import mean_statistic
from components.benchmarks.shared.per_image import FILE, PerImage
from components.captioning.samples import CAPTIONED_IMAGES, CaptionedSamples
from components.core.files import write_json, write_text
from components.core.pictures import draw_texts, spread, write_picture
from components.data.image import Pixels, decode
from components.data.store import CaptionStore

PAGE = "index.html"
MEANS = ("CIDEr-D", "SPICE", "ROUGE-L")  # over images; others weigh statistics of the whole set
FEW_CAPTIONS = 50.0  # percent of the images: if more get the same sentence, the model hardly looks
HEADLINES = ("CIDEr-D", "SPICE", "METEOR", "BLEU-4", "ROUGE-L")


@dataclass(frozen=True, slots=True)
class WrittenCaption:
    """A model's caption; ``log_probability`` is natural, summed over its tokens, [EOS] included."""

    image_id: str
    caption: str
    log_probability: float


@dataclass(frozen=True, slots=True)
class ScoredCaption(WrittenCaption):
    """One entry of captions.json; ``cider`` is CIDEr-D in percent."""

    references: tuple[str, ...]
    cider: float


@dataclass(frozen=True, slots=True)
class Measured:
    """The captions of a model and their scores.

    Attributes:
        captions: of each image, in the order of the store.
        scores: of all of them.
    """

    captions: list[ScoredCaption]
    scores: CaptionScores

    @property
    def headlines(self) -> dict[str, float]:
        """The figures for people, in percent, without those that cannot be computed on this machine."""
        corpus = self.scores.corpus
        return {name: corpus[name] for name in HEADLINES if name in corpus}

    @property
    def most_frequent(self) -> tuple[str, float]:
        """The caption that most images get, and the share of them in percent."""
        [(caption, count)] = Counter(entry.caption for entry in self.captions).most_common(1)
        return caption, 100.0 * count / len(self.captions)

    @property
    def distinct(self) -> int:
        """The number of captions that differ."""
        return len({entry.caption for entry in self.captions})

    @property
    def diversity(self) -> str:
        """Say how many captions differ, and warn of a model that hardly looks."""
        text, share = self.most_frequent
        if share > FEW_CAPTIONS:
            return f"Warning: {share:.0f} % of the images get the same caption, {text!r}"
        most = f"the most frequent one, {text!r}, has {share:.1f} % of the images"
        return f"{self.distinct:,} captions differ; {most}"

    def by_image(self) -> PerImage:
        """Return the scores of each image, and resamples of those that are means over images.

        What CIDEr-D knows of all references, how rare a word is, is not resampled.
        """
        image_ids = [entry.image_id for entry in self.captions]
        names = self.scores.images[image_ids[0]]
        columns = {
            name: np.array([self.scores.images[image_id][name] for image_id in image_ids]) for name in names
        }
        figures = {name: self.scores.corpus[name] for name in MEANS if name in names}
        statistic = mean_statistic({name: columns[name] for name in figures})
        return PerImage.measured(image_ids, figures, statistic, columns)

    def figures(self) -> dict[str, Any]:
        """Return what goes into metrics.json."""
        captions = self.captions
        return {
            **self.scores.corpus,
            "images": len(captions),
            "distinct_captions": self.distinct,
            "most_frequent_share": self.most_frequent[1],
            "mean_words": sum(len(entry.caption.split()) for entry in captions) / len(captions),
            "mean_log_probability": sum(entry.log_probability for entry in captions) / len(captions),
            **({"not_run": self.scores.not_run} if self.scores.not_run else {}),
        }


def picture_of_some(store: CaptionStore, indices: Sequence[int], captions: Sequence[ScoredCaption]) -> Pixels:
    """Draw the same images in each run, whatever their scores, so that DVC's plots compare two runs."""
    chosen = spread(len(captions), CAPTIONED_IMAGES)
    return CaptionedSamples(
        [decode(store.get(indices[index]).image) for index in chosen],
        [captions[index].caption for index in chosen],
        [captions[index].references[0] for index in chosen],
    ).picture()


def record(
    run: Run, captions: Sequence[ScoredCaption], by_image: PerImage, page: str, picture: Pixels
) -> None:
    """Write all files of the benchmark but its metrics.json."""
    write_json(run.output_dir / "captions.json", [asdict(entry) for entry in captions])
    write_text(run.output_dir / PAGE, page)
    write_picture(run.output_dir / "captions.png", picture)
    by_image.write(run.output_dir / FILE)
    for name in ("captions.json", PAGE, "captions.png", FILE):
        run.artifact(run.output_dir / name)


def record_nothing(run: Run, reason: str, page: str) -> None:
    """Write empty results: a model of another objective writes no captions, and the run continues."""
    blank = np.full((1, 1, 3), 255, np.uint8)
    record(run, [], PerImage.nothing(), page, draw_texts([blank], [reason]))
    run.metrics({"images": 0, "not_run": reason})
    print(f"Nothing to score: {reason}", flush=True)


def tell(measured: Measured, data: str) -> None:
    """Print the figures, what makes them doubtful, and what is missing; ``data`` are the images' title."""
    figures = ", ".join(f"{name} {value:.1f}" for name, value in measured.headlines.items())
    print(f"{len(measured.captions)} images of {data}: {figures}", flush=True)
    print(measured.diversity, flush=True)
    for name, reason in measured.scores.not_run.items():
        print(f"Without {name}: {reason}", flush=True)
