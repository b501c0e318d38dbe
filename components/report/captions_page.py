"""One self-contained page of pictures with the captions a model wrote for them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from string import Template

from components.data.image import Pixels
from components.report.captions_style import STYLE
from components.report.thumbnails import data_uri

THUMBNAIL_PIXELS = 360  # longer side


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
    """A third of ``num_examples`` each of the best, the middle and the worst; earlier ones among equals.

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


def captions_page(
    title: str,
    scores: Mapping[str, float],
    all_ciders: Sequence[float],
    groups: Mapping[str, Sequence[CaptionedPicture]],
) -> str:
    """HTML in one file: no script, nothing fetched; for phones and desks, light and dark.

    Args:
        title: says which model and dataset.
        scores: the headline figures, in percent.
        all_ciders: CIDEr-D of every scored caption, for the histogram.
        groups: pictures under their headings.
    """
    figures = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{value:.1f}</dd></div>" for name, value in scores.items()
    )
    sections = "".join(_section(name, pictures) for name, pictures in groups.items() if pictures)
    return _PAGE.substitute(
        title=escape(title),
        style=STYLE,
        images=f"{len(all_ciders):,}",
        figures=figures,
        histogram=_histogram(all_ciders) if all_ciders else "",
        sections=sections,
    )


def _section(name: str, pictures: Sequence[CaptionedPicture]) -> str:
    cards = "".join(_card(picture) for picture in pictures)
    low, high = (end(picture.cider for picture in pictures) for end in (min, max))
    return (
        f'<section><h2>{escape(name)}</h2><p class="range">CIDEr-D {low:.0f} to {high:.0f}</p>'
        f'<div class="cards">{cards}</div></section>\n'
    )


def _card(picture: CaptionedPicture) -> str:
    references = "".join(f"<li>{escape(text)}</li>" for text in picture.references)
    caption = escape(picture.caption) or "<em>(no words)</em>"
    uri = data_uri(picture.pixels, THUMBNAIL_PIXELS)
    return (
        f'<article><img src="{uri}" alt="{escape(picture.references[0])}">'
        f'<div class="words"><p class="caption">{caption}</p>'
        f'<p class="numbers"><span><b>{picture.cider:.0f}</b> CIDEr-D</span>'
        f"<span><b>{picture.log_probability:.1f}</b> log-probability</span></p>"
        f'<p class="people">References</p><ul>{references}</ul>'
        f'<p class="id">{escape(picture.image_id)}</p></div></article>'
    )


def _histogram(ciders: Sequence[float], num_bins: int = 24) -> str:
    """An SVG of how many captions have which CIDEr-D; the last bar holds all that is beyond."""
    ordered = sorted(ciders)
    top = max(10.0, ordered[int(0.98 * (len(ordered) - 1))])
    counts = [0] * num_bins
    for value in ordered:
        counts[min(num_bins - 1, int(value / top * num_bins))] += 1
    median = ordered[len(ordered) // 2]
    x = f"{min(median / top, 1) * 480:.1f}"
    return (
        f'<figure><svg viewBox="0 0 480 120" role="img" aria-label="histogram of CIDEr-D">'
        f"{''.join(_bars(counts))}"
        f'<line x1="{x}" x2="{x}" y1="0" y2="120"/></svg>'
        f"<figcaption><span>0</span><span>captions by CIDEr-D; line: median {median:.0f}</span>"
        f"<span>{top:.0f} and more</span></figcaption></figure>"
    )


def _bars(counts: Sequence[int]) -> Iterator[str]:
    width = 480 / len(counts)
    for index, count in enumerate(counts):
        height = 116 * count / max(counts)
        yield (
            f'<rect x="{index * width + 1:.1f}" y="{120 - height:.1f}" width="{width - 2:.1f}" '
            f'height="{height:.1f}" rx="2"><title>{count:,} captions</title></rect>'
        )


_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>$style</style>
</head>
<body>
<header>
<h1>$title</h1>
<div class="summary">
<div><p>$images validation images, captioned by beam search and scored against their reference captions.
Pictures show the centre square, which is what the model sees. Scores are in percent (CIDEr-D, a mean over the
images, can exceed 100); log-probabilities are natural and of the whole caption.</p>
<dl>$figures</dl></div>
$histogram
</div>
</header>
<main>
$sections</main>
</body>
</html>
""")
