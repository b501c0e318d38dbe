"""The files in which captions and their scores are kept, and a picture of some of them."""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from components.benchmarks.captioning.protocol import Measured, ScoredCaption
from components.benchmarks.shared.files import Run
from components.benchmarks.shared.per_image import FILE, PerImage
from components.captioning.samples import CAPTIONED_IMAGES, CaptionedSamples
from components.core.files import write_json, write_text
from components.core.pictures import draw_texts, spread, write_picture
from components.data.image import Pixels, decode
from components.data.store import CaptionStore

PAGE = "index.html"


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
