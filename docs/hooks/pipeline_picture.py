"""The picture of the pipeline: dvc.yaml's stages and what passes between them, as an SVG.

Stages that run once per item (a backbone, a split) are one name, and stages with the same arrows share a
box. An arrow that follows from others is left out: `datasets` feeds the benchmarks too, but they wait for
`select`, which comes after it anyway.
"""

import itertools
import re
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from html import escape
from typing import Any

from grandalf.graphs import Edge, Graph, Vertex
from grandalf.layouts import SugiyamaLayout
from grandalf.routing import EdgeViewer
from ruamel.yaml import YAML

Stages = Mapping[str, set[str]]  # a stage's name, and those it waits for

_GAP, _ROW_GAP, _MARGIN = 40.0, 36.0, 4.0  # pixels between boxes, between rows, around all
_CHARACTER, _LINE, _PADDING = 8.4, 22.0, 12.0  # a character and a line of 14 px monospace; beside the names


def read_stages(dvc_text: str) -> dict[str, set[str]]:
    """Return the stages of a dvc.yaml's text, in its order, and those whose outputs each reads."""
    written = YAML(typ="safe").load(dvc_text)["stages"]
    bodies: dict[str, dict[str, Any]] = {name: stage.get("do", stage) for name, stage in written.items()}
    makes = {
        name: [_pattern(path) for kind in ("outs", "metrics", "plots") for path in _paths(body.get(kind, []))]
        for name, body in bodies.items()
    }
    return {
        name: {
            maker
            for maker, outs in makes.items()
            if maker != name and any(_touch(_pattern(dep), out) for dep in body["deps"] for out in outs)
        }
        for name, body in bodies.items()
    }


def without_shortcuts(stages: Stages) -> dict[str, set[str]]:
    """Return the same order of stages with the fewest arrows."""
    return {
        name: {
            direct
            for direct in above
            if not any(direct in _above(stages, other) for other in above - {direct})
        }
        for name, above in stages.items()
    }


def twins(arrows: Stages) -> dict[tuple[str, ...], set[tuple[str, ...]]]:
    """Boxes, and those above each: stages that wait for, and are waited for by, the same ones share one."""
    below = {name: {other for other, above in arrows.items() if name in above} for name in arrows}
    groups: dict[tuple[frozenset[str], frozenset[str]], list[str]] = {}
    for name in arrows:
        groups.setdefault((frozenset(arrows[name]), frozenset(below[name])), []).append(name)
    box_of = {name: tuple(group) for group in groups.values() for name in group}
    return {tuple(group): {box_of[up] for up in arrows[group[0]]} for group in groups.values()}


def draw(stages: Stages, link: Callable[[str], str | None]) -> str:
    """Return an inline SVG in the colours of the page around it.

    Args:
        stages: as `read_stages` gives them.
        link: where a click on a stage leads; None leads nowhere.
    """
    boxes = twins(without_shortcuts(stages))
    vertices = {names: Vertex(names) for names in boxes}
    for names, vertex in vertices.items():
        vertex.view = _Box(names)
    # Laid out from the end, so that each box stands as close above what needs it as it can.
    edges = [Edge(vertices[names], vertices[up]) for names, above in boxes.items() for up in sorted(above)]
    for edge in edges:
        edge.view = EdgeViewer()
    (component,) = Graph(list(vertices.values()), edges).C
    layout = SugiyamaLayout(component)
    layout.xspace, layout.yspace = _GAP, _ROW_GAP
    layout.init_all()
    layout.draw(12)  # sweeps against crossings; more change nothing
    return _svg([vertex.view for vertex in vertices.values()], edges, link)


class _Box:
    """Stages of one box, and where grandalf puts its centre, upside down."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self.w = max(map(len, names)) * _CHARACTER + 2 * _PADDING
        self.h = len(names) * _LINE + _PADDING
        self.xy = (0.0, 0.0)

    @property
    def left(self) -> float:
        return self.xy[0] - self.w / 2

    @property
    def top(self) -> float:
        return -self.xy[1] - self.h / 2


def _svg(boxes: list[_Box], edges: list[Any], link: Callable[[str], str | None]) -> str:
    left, top = min(box.left for box in boxes) - _MARGIN, min(box.top for box in boxes) - _MARGIN
    width = max(box.left + box.w for box in boxes) + _MARGIN - left
    height = max(box.top + box.h for box in boxes) + _MARGIN - top
    parts = [
        f'<svg viewBox="{left:.0f} {top:.0f} {width:.0f} {height:.0f}" width="{width:.0f}" role="img" '
        'aria-label="The stages of the pipeline and what passes between them">',
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0,0 L8,4 L0,8 z"/></marker></defs>',
    ]
    parts += [f'<path class="arrow" d="{_curve(edge)}" marker-end="url(#arrow)"/>' for edge in edges]
    for box in boxes:
        place = f'x="{box.left:.1f}" y="{box.top:.1f}" width="{box.w:.1f}" height="{box.h:.1f}"'
        parts.append(f'<rect {place} rx="5"/>')
        for number, name in enumerate(box.names):
            y = box.top + _PADDING / 2 + (number + 0.72) * _LINE
            text = f'<text x="{box.xy[0]:.1f}" y="{y:.1f}">{escape(name)}</text>'
            target = link(name)
            parts.append(f'<a href="{escape(target)}">{text}</a>' if target else text)
    return f'<div class="pipeline">{"".join(parts)}</svg></div>'


def _curve(edge: Any) -> str:
    """From the bottom of one box to the top of the other, past what lies between."""
    below, above = edge.v[0].view, edge.v[1].view
    between = [(x, -y) for x, y in edge.view._pts[1:-1]][::-1]
    points = [(above.xy[0], above.top + above.h), *between, (below.xy[0], below.top)]
    path = f"M{points[0][0]:.1f},{points[0][1]:.1f}"
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        middle = (y0 + y1) / 2
        path += f" C{x0:.1f},{middle:.1f} {x1:.1f},{middle:.1f} {x1:.1f},{y1:.1f}"
    return path


def _above(stages: Stages, name: str) -> set[str]:
    """All stages that come before one."""
    found: set[str] = set()
    waiting = list(stages[name])
    while waiting:
        if (next_one := waiting.pop()) not in found:
            found.add(next_one)
            waiting += stages[next_one]
    return found


def _paths(entries: list[Any]) -> list[str]:
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def _pattern(path: str) -> str:
    return re.sub(r"\$\{[^}]*\}", "*", path)


def _touch(dep: str, out: str) -> bool:
    """Whether a dependency is an output, lies in it, or holds it."""
    return any(
        fnmatchcase(one, other) or fnmatchcase(one, f"{other}/*") for one, other in ((dep, out), (out, dep))
    )
