"""The rows of a comparison, gathered from the files in their workspaces."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components import params
from components.core.paths import stage_dir
from components.core.published import BENCHMARKS, MODELS, Benchmark, PublishedModel, Setup, same_model
from components.params import PRETRAINED
from components.params.presets import PRESETS_DIR
from components.report.files import read_metrics
from components.report.protocol import (
    PRETRAINING_SECTIONS,
    parameter_differences,
    read_protocol,
    read_setup,
    setup_differences,
)
from components.report.results import PAIR, Result, read_results

PUBLISHED_KEYS = ("voc07.mAP", "imagenet_linear.top1")
GOOD_STATES = ("ran", "restored", "unchanged")


@dataclass(frozen=True, slots=True)
class ComparedRow:
    """One run of a family.

    Attributes:
        name: for programs.
        title: for people.
        state: outcome of the run: ``ran``, ``unchanged``, ``failed``, ``stopped`` or ``not started``.
        message: why it failed.
        setup: of the run.
        figures: in percent, by `Benchmark.key`; without those that this run did not bring up to date.
        baselines: the same of the backbones that this run was compared with, by their names.
        pretraining: metrics.json of pretraining, empty when it is not up to date.
        published: the paper's model of this row, or None.
        differences: what of the set-up is not the published model's, as names of its fields.
        parameters: those of pretraining and of the benchmarks in `PUBLISHED_KEYS` that are not the
            paper's, in words.
    """

    name: str
    title: str
    state: str
    message: str
    setup: Setup
    figures: dict[str, float]
    baselines: dict[str, dict[str, float]] = field(default_factory=dict)
    pretraining: dict[str, Any] = field(default_factory=dict)
    published: PublishedModel | None = None
    differences: list[str] = field(default_factory=list)
    parameters: list[str] = field(default_factory=list)

    def gain(self, key: str) -> float | None:
        """Percentage points above the random backbone of the same run; None without both."""
        random = self.baselines.get(PAIR[1], {})
        return round(self.figures[key] - random[key], 4) if key in self.figures and key in random else None


@dataclass(frozen=True, slots=True)
class Comparison:
    """A family.

    Attributes:
        family: its name.
        title: what its rows differ in.
        base: what they were laid over.
        paper_base: preset with the set-up of the paper's rows, or None.
        rows: in the order of the table.
    """

    family: str
    title: str
    base: str
    paper_base: str | None
    rows: list[ComparedRow]

    def benchmarks(self) -> list[Benchmark]:
        """VOC07, and all other headlines that a row has a figure of."""
        found = {key for row in self.rows for key in row.figures} | {"voc07.mAP"}
        return [one for one in BENCHMARKS if one.is_headline and one.key in found]

    def published_keys(self) -> tuple[str, ...]:
        """Keys of the paper's figures to show: those that it has for each model, if it has any of these."""
        return PUBLISHED_KEYS if any(row.published for row in self.rows) else ()

    def baseline_rows(self) -> list[tuple[str, str, dict[str, float]]]:
        """Baseline, backbone and figures: one a pair, from the first row that has it."""
        found: dict[tuple[str, str], dict[str, float]] = {}
        for row in self.rows:
            for name, figures in row.baselines.items():
                key = (name, row.setup.backbone)
                found[key] = {**figures, **found.get(key, {})}
        return [(name, backbone, figures) for (name, backbone), figures in found.items()]


def read_comparison(request: Path) -> Comparison:
    """Gather what ``request`` names.

    Args:
        request: JSON with the fields of `Comparison`; each of its ``rows`` has ``name``, ``title``,
            ``workspace``, ``state``, ``message``, ``stages`` (what its run did, by stage) and
            ``published`` (name of a published model, or null: that of the same model and data, if any).

    Raises:
        InputError: for a workspace without good parameters.
    """
    written = json.loads(request.read_text(encoding="utf-8"))
    rows = [_row(row) for row in written["rows"]]
    return Comparison(written["family"], written["title"], written["base"], written["paper_base"], rows)


def _row(written: Mapping[str, Any]) -> ComparedRow:
    presets = PRESETS_DIR.absolute()
    with contextlib.chdir(written["workspace"]):
        sections = params.check_params()
        asked = sections["benchmarks"]
        assert isinstance(asked, params.Benchmarks)
        setup = read_setup(sections)
        results = read_results(setup, asked)
        pretraining = read_metrics(stage_dir("pretrain"), [])
        published = _published(written["published"], setup)
        parameters = _parameters(published, presets) if published else []
    good = {name for name, state in written["stages"].items() if state in GOOD_STATES}
    others = dict.fromkeys(name for result in results for name in result.figures if name != PRETRAINED)
    baselines = {name: _figures(results, name, good) for name in others}
    return ComparedRow(
        written["name"],
        written["title"],
        written["state"],
        written["message"],
        setup,
        _figures(results, PRETRAINED, good),
        {name: figures for name, figures in baselines.items() if figures},
        pretraining if "pretrain" in good else {},
        published,
        setup_differences(setup, published) if published else [],
        parameters,
    )


def _parameters(published: PublishedModel, presets: Path) -> list[str]:
    """List what differs from the paper, in the workspace that is the working directory."""
    protocol = read_protocol(published, folder=presets)
    if protocol.preset is None:
        return ["no preset of the published model is here to hold them against"]
    benchmarks = [key.partition(".")[0] for key in PUBLISHED_KEYS]
    return list(parameter_differences(protocol, *PRETRAINING_SECTIONS, *benchmarks))


def _published(name: str | None, setup: Setup) -> PublishedModel | None:
    """Return the model of that name, else the one of the same architecture and data, if any."""
    if name:
        return next(model for model in MODELS if model.name == name)
    same = same_model(setup)
    data = ("captions", "captioned_images", "captions_per_image")
    return same if same and all(getattr(same.setup, n) == getattr(setup, n) for n in data) else None


def _figures(results: Sequence[Result], backbone: str, good: set[str]) -> dict[str, float]:
    """Return a backbone's figures; those of stages that are not up to date belong to other parameters."""
    return {
        result.benchmark.key: value
        for result in results
        if (value := result.value(backbone)) is not None and result.benchmark.stage(backbone) in good
    }
