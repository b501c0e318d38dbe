"""Families of runs that differ in one thing (paper, section 4): `virtex ablate` runs one and compares.

A row lays its overrides over whatever base the user chooses, so a family of the drawn world is the same
family as that of the paper; `paper_base` is the preset on which the paper's figures were measured.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from components.core.errors import InputError
from components.core.published import BEST_MODEL, MODELS, PublishedModel, Setup
from components.params.reading import nearest

_ALL_CAPTIONS = "subset.captions_per_image=null"
PRESETS = "presets"  # a family of whatever presets one names


@dataclass(frozen=True, slots=True)
class FamilyRow:
    """One run of a family.

    Attributes:
        name: for the command line and folders.
        title: for people.
        overrides: ``section.key=value`` changes of the base.
        published: the paper's model of this row, with its figures; None where the paper has no such row.
        preset: laid over the base first.
    """

    name: str
    title: str
    overrides: tuple[str, ...] = ()
    published: PublishedModel | None = None
    preset: str | None = None


@dataclass(frozen=True, slots=True)
class Family:
    """Runs to compare.

    Attributes:
        name: for the command line and folders.
        title: for people, what the rows differ in.
        rows: in the order of the table.
        paper_base: preset that has everything as the paper's rows have it; None without such rows.
    """

    name: str
    title: str
    rows: tuple[FamilyRow, ...]
    paper_base: str | None = None

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
        return Family(self.name, self.title, rows, self.paper_base)


def chosen_family(name: str, rows: Sequence[str] = ()) -> Family:
    """Return a family with the chosen rows; those of the family ``presets`` are the names of any presets.

    Raises:
        InputError: for an unknown family or row, naming the nearest.
    """
    if name == PRESETS:
        found = (FamilyRow(preset.replace("/", "-"), preset, preset=preset) for preset in dict.fromkeys(rows))
        return Family(PRESETS, "presets", tuple(found))
    if name not in FAMILIES:
        raise InputError(f"unknown family `{name}`{nearest(name, FAMILIES)}")
    return FAMILIES[name].only(rows)


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

    Both end in one row: with COCO's five captions an image, "at most five" would be the same run again.
    """
    for share in (0.1, 0.2, 0.5):
        percent = f"{100 * share:.0f}"
        title = f"{percent} % of the images"
        yield FamilyRow(f"images{percent}", title, (f"subset.image_fraction={share}", _ALL_CAPTIONS))
    for number in (1, 2, 3, 4):
        title = f"{number} caption{'s' if number > 1 else ''} an image"
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
        Family("width", "widths of the textual head", tuple(_widths()), BEST_PRESET),
        Family("depth", "depths of the textual head", tuple(_depths()), H1024_PRESET),
        Family("backbone", "backbones", tuple(_backbones()), H1024_PRESET),
        Family("data", "amounts of data", tuple(_data()), BEST_PRESET),
    )
}
