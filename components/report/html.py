"""Self-contained pages: templates that escape all text, pictures inside them; the page of captions."""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from components.data.image import Pixels, encode_jpeg, resize

QUALITY = 82
THUMBNAIL_PIXELS = 360  # longer side
NUM_BINS = 24


def render(template: str, **values: object) -> str:
    """Return a template of this folder, filled; in HTML all text is escaped, a missing value is an error."""
    environment = Environment(
        loader=PackageLoader("components.report", "templates"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(**values)


def data_uri(pixels: Pixels, longer_side: int) -> str:
    """Return a JPEG of pixels (height, width, 3) as a data URI, shrunk to ``longer_side`` if larger.

    So a page needs no other file.
    """
    height, width = pixels.shape[:2]
    scale = longer_side / max(height, width)
    if scale < 1:
        pixels = resize(pixels, max(1, round(height * scale)), max(1, round(width * scale)))
    return "data:image/jpeg;base64," + base64.b64encode(encode_jpeg(pixels, QUALITY)).decode()


@dataclass(frozen=True, slots=True)
class CaptionedPicture:
    """A picture (height, width, 3), what the model said, what people said, and its CIDEr-D in percent."""

    image_id: str
    pixels: Pixels
    caption: str
    log_probability: float
    cider: float
    references: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ranking:
    """Indices of examples, each index in one place at most.

    Attributes:
        best: highest score first.
        typical: around the median, higher scores first.
        worst: lowest score first.
    """

    best: list[int]
    typical: list[int]
    worst: list[int]


def choose_examples(scores: Sequence[float], num_examples: int) -> Ranking:
    """Choose a third of ``num_examples`` each of the best, the middle and the worst; of equals the first.

    With fewer scores than examples all are used.
    """
    order = sorted(range(len(scores)), key=lambda index: (-scores[index], index))
    num_examples = min(num_examples, len(order))
    num_worst = num_examples // 3
    num_typical = (num_examples - num_worst) // 2
    num_best = num_examples - num_worst - num_typical
    middle = (len(order) - num_typical) // 2
    start = min(max(middle, num_best), len(order) - num_worst - num_typical)
    worst = sorted(order[len(order) - num_worst :], key=lambda index: (scores[index], index))
    return Ranking(order[:num_best], order[start : start + num_typical], worst)


def example_groups(
    scores: Sequence[float], num_examples: int, picture_of: Callable[[int], CaptionedPicture]
) -> dict[str, list[CaptionedPicture]]:
    """Return the pictures of `choose_examples` under their headings; ``picture_of`` takes an index."""
    ranking = choose_examples(scores, num_examples)
    return {
        "Best: the highest scores": list(map(picture_of, ranking.best)),
        "Typical: around the median": list(map(picture_of, ranking.typical)),
        "Worst: the lowest scores": list(map(picture_of, ranking.worst)),
    }


def captions_page(
    title: str,
    scores: Mapping[str, float],
    diversity: str,
    all_ciders: Sequence[float],
    groups: Mapping[str, Sequence[CaptionedPicture]],
) -> str:
    """Return HTML in one file: no script, nothing fetched; for phones and desks, light and dark.

    Args:
        title: says which model and dataset.
        scores: the headline figures, in percent.
        diversity: a line on how many captions differ; empty without any.
        all_ciders: CIDEr-D of every scored caption, for the histogram.
        groups: pictures under their headings.
    """
    return render(
        "captions.html",
        title=title,
        scores=scores,
        diversity=diversity,
        num_images=len(all_ciders),
        histogram=_histogram(all_ciders) if all_ciders else None,
        groups={name: pictures for name, pictures in groups.items() if pictures},
        thumbnail=lambda picture: data_uri(picture.pixels, THUMBNAIL_PIXELS),
    )


def _histogram(ciders: Sequence[float]) -> dict[str, Any]:
    """Count captions by CIDEr-D; the last bar holds all that is beyond ``top``."""
    ordered = sorted(ciders)
    top = max(10.0, ordered[int(0.98 * (len(ordered) - 1))])
    counts = [0] * NUM_BINS
    for value in ordered:
        counts[min(NUM_BINS - 1, int(value / top * NUM_BINS))] += 1
    return {"counts": counts, "top": top, "median": ordered[len(ordered) // 2]}
