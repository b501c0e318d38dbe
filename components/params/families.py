"""Families of runs that differ in one thing (paper, section 4): `virtex ablate` runs one and compares.

A row lays its overrides over whatever base the user chooses, so a family of the drawn world is the same
family as that of the paper; `paper_base` is the preset on which the paper's figures were measured.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from components.core.errors import InputError
from components.core.published import BEST_MODEL, MODELS, PublishedModel, Setup
from components.params.reading import nearest

_ALL_CAPTIONS = "subset.captions_per_image=null"
PRESETS = "presets"  # a family of whatever presets one names
SEEDS = "seeds"  # a family of one row: how far a figure moves by chance
_DATA = "download"  # its seeds draw and divide the data, which all rows share


@dataclass(frozen=True, slots=True)
class FamilyRow:
    """One run of a family.

    Attributes:
        name: for the command line and folders.
        title: for people.
        overrides: ``section.key=value`` changes of the base.
        published: the paper's model of this row, with its figures; None where the paper has no such row.
        preset: laid over the base first.
        seed: added to every seed of the base but those of the data; with it the name ends in ``-seed1``.
    """

    name: str
    title: str
    overrides: tuple[str, ...] = ()
    published: PublishedModel | None = None
    preset: str | None = None
    seed: int = 0

    @property
    def group(self) -> str:
        """The name without its seed: rows that differ in nothing else share it."""
        return self.name.removesuffix(f"-seed{self.seed}") if self.seed else self.name


@dataclass(frozen=True, slots=True)
class Family:
    """Runs to compare.

    Attributes:
        name: for the command line and folders.
        title: for people, what the rows differ in.
        rows: in the order of the table.
        paper_base: preset that has everything as the paper's rows have it; None without such rows.
        num_seeds: runs per row where nobody asks for another number.
    """

    name: str
    title: str
    rows: tuple[FamilyRow, ...]
    paper_base: str | None = None
    num_seeds: int = 1

    def only(self, names: Sequence[str]) -> "Family":
        """Return the family with these rows alone, in the family's order; no names mean all.

        Raises:
            InputError: for an unknown row, naming the nearest.
        """
        known = [row.name for row in self.rows]
        for name in names:
            if name not in known:
                raise InputError(f"family `{self.name}` has no row `{name}`{nearest(name, known)}")
        rows = tuple(row for row in self.rows if row.name in names) if names else self.rows
        return replace(self, rows=rows)

    def with_seeds(self, number: int) -> "Family":
        """Return the family with ``number`` runs of each row; the first has the base's own seeds."""
        rows = (
            replace(row, name=f"{row.name}-seed{seed}" if seed else row.name, seed=seed)
            for row in self.rows
            for seed in range(number)
        )
        return replace(self, rows=tuple(rows))


def chosen_family(name: str, rows: Sequence[str] = (), num_seeds: int | None = None) -> Family:
    """Return a family with the chosen rows; those of the family ``presets`` are the names of any presets.

    Args:
        name: of the family.
        rows: their names; none means all.
        num_seeds: runs of each row; none means as many as the family has.

    Raises:
        InputError: for an unknown family or row, naming the nearest.
    """
    if name == PRESETS:
        found = (FamilyRow(preset.replace("/", "-"), preset, preset=preset) for preset in dict.fromkeys(rows))
        return Family(PRESETS, "presets", tuple(found))
    if name not in FAMILIES:
        raise InputError(f"unknown family `{name}`{nearest(name, FAMILIES)}")
    family = FAMILIES[name].only(rows)
    return family.with_seeds(num_seeds or family.num_seeds)


def seed_overrides(tree: Mapping[str, Any], offset: int) -> list[str]:
    """Return the changes of params.yaml, given as nested values, that add ``offset`` to each seed."""
    return [f"{section}.seed={tree[section]['seed'] + offset}" for section in _seeded(tree)]


def digest_without_seeds(tree: Mapping[str, Any]) -> str:
    """Return a digest of params.yaml that is the same for all seeds, those of the data excepted."""
    seeded = _seeded(tree)
    kept = {
        name: {key: value for key, value in of.items() if key != "seed"} if name in seeded else of
        for name, of in tree.items()
    }
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def _seeded(tree: Mapping[str, Any]) -> list[str]:
    return [name for name, of in tree.items() if name != _DATA and isinstance(of, Mapping) and "seed" in of]


def _published(hidden_size: int = 2048, **wanted: object) -> PublishedModel:
    """Return the one published model with these values in its set-up."""

    def fits(setup: Setup) -> bool:
        return all(getattr(setup, key) == value for key, value in wanted.items())

    (model,) = (m for m in MODELS if m.setup.hidden_size == hidden_size and fits(m.setup))
    return model


def _tasks() -> Iterable[FamilyRow]:
    for name, title in (
        ("bicaptioning", "Bicaptioning"),
        ("captioning", "Forward captioning"),
        ("token_classification", "Token classification"),
        ("multilabel_classification", "Multilabel classification"),
        ("masked_lm", "Masked language modelling"),
    ):
        published = _published(objective=name, num_layers=1, backbone="resnet50")
        yield FamilyRow(name, title, (f"objective.name={name}",), published)


def _objectives() -> Iterable[FamilyRow]:
    """Yield the paper's tasks that learn from captions, and those of others on equal terms."""
    yield from (row for row in _tasks() if row.name != "multilabel_classification")
    for name, title in (
        ("parallel_captioning", "Parallel captioning (CapPa)"),
        ("parallel_bicaptioning", "Parallel bicaptioning"),
        ("idf_token_classification", "IDF token classification (SuperClass)"),
        ("contrastive", "Contrastive (SigLIP)"),
        ("contrastive_classification", "Contrastive with class loss (SuperCLIP)"),
    ):
        yield FamilyRow(name, title, (f"objective.name={name}",))


def _widths() -> Iterable[FamilyRow]:
    for width in (512, 768, 1024, 2048):
        published = _published(width, objective="bicaptioning", num_layers=1, backbone="resnet50")
        yield FamilyRow(f"H{width}", f"Width {width}", (f"textual_head.hidden_size={width}",), published)


def _depths() -> Iterable[FamilyRow]:
    for depth in (1, 2, 3, 4):
        published = _published(1024, objective="bicaptioning", num_layers=depth, backbone="resnet50")
        title = f"{depth} layer{'s' if depth > 1 else ''}"
        yield FamilyRow(f"L{depth}", title, (f"textual_head.num_layers={depth}",), published)


def _backbones() -> Iterable[FamilyRow]:
    for name, title in (
        ("resnet50", "ResNet-50"),
        ("wide_resnet50_2", "ResNet-50 w2x"),
        ("resnet101", "ResNet-101"),
    ):
        published = _published(1024, objective="bicaptioning", num_layers=1, backbone=name)
        yield FamilyRow(name, title, (f"backbone.name={name}",), published)


def _data() -> Iterable[FamilyRow]:
    """Yield parts of the images with all captions, and of the captions of all images (section 4.1).

    Both end in one row: with COCO's five captions per image, "at most five" would be the same run again.
    """
    for share in (0.1, 0.2, 0.5):
        percent = f"{100 * share:.0f}"
        title = f"{percent} % of the images"
        yield FamilyRow(f"images{percent}", title, (f"subset.image_fraction={share}", _ALL_CAPTIONS))
    for number in (1, 2, 3, 4):
        title = f"{number} caption{'s' if number > 1 else ''} per image"
        overrides = ("subset.image_fraction=1.0", f"subset.captions_per_image={number}")
        yield FamilyRow(f"captions{number}", title, overrides)
    yield FamilyRow(
        "all", "All images and captions", ("subset.image_fraction=1.0", _ALL_CAPTIONS), BEST_MODEL
    )


BEST_PRESET = "coco/bicaptioning_R_50_L1_H2048"
H1024_PRESET = "coco/bicaptioning_R_50_L1_H1024"
FAMILIES = {
    family.name: family
    for family in (
        Family("tasks", "pretraining tasks", tuple(_tasks()), BEST_PRESET),
        Family("objectives", "ways to learn from captions", tuple(_objectives())),
        Family("width", "widths of the textual head", tuple(_widths()), BEST_PRESET),
        Family("depth", "depths of the textual head", tuple(_depths()), H1024_PRESET),
        Family("backbone", "backbones", tuple(_backbones()), H1024_PRESET),
        Family("data", "amounts of data", tuple(_data()), BEST_PRESET),
        Family(SEEDS, "seeds", (FamilyRow("run", "This run"),), num_seeds=3),
    )
}
