"""The rows of a comparison, gathered from their workspaces: one run per seed, and the spread of those."""

import contextlib
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from components import params
from components.core.files import read_json
from components.core.paths import PARAMS, stage_dir
from components.core.published import BENCHMARKS, MODELS, Benchmark, PublishedModel, Setup, same_model
from components.params import PRETRAINED
from components.params.families import digest_without_seeds
from components.params.presets import PRESETS_DIR
from components.params.yaml_files import load_yaml
from components.report.files import read_metrics
from components.report.protocol import (
    PRETRAINING_SECTIONS,
    benchmark_differences,
    parameter_differences,
    read_protocol,
    read_setup,
    setup_differences,
)
from components.report.results import OTHER_PROTOCOL_MARK, PAIR, Result, read_results

PUBLISHED_KEYS = ("voc07.mAP", "imagenet_linear.top1")
GOOD_STATES = ("ran", "restored", "unchanged")
BAD_STATES = ("failed", "stopped", "not started")


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure, or a difference of figures, over seeds.

    Attributes:
        values: by seed, at least one.
    """

    values: dict[int, float]

    @property
    def mean(self) -> float:
        """Return the mean; the value itself of one seed."""
        return round(statistics.fmean(self.values.values()), 4)

    @property
    def standard_error(self) -> float | None:
        """Return the standard error of the mean; None with one seed."""
        number = len(self.values)
        return statistics.stdev(self.values.values()) / math.sqrt(number) if number > 1 else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Return the 95 % interval of the mean by Student's t; None with one seed."""
        from scipy.special import stdtrit  # here, since few comparisons have seeds

        if self.standard_error is None:
            return None
        half = float(stdtrit(len(self.values) - 1, 0.975)) * self.standard_error
        return self.mean - half, self.mean + half

    def minus(self, other: "Spread") -> "Spread | None":
        """Return the differences, seed by seed; None without a seed that both have."""
        both = [seed for seed in self.values if seed in other.values]
        values = {seed: round(self.values[seed] - other.values[seed], 4) for seed in both}
        return Spread(values) if values else None


@dataclass(frozen=True, slots=True)
class SeedRun:
    """One run of a row.

    Attributes:
        name: of its workspace.
        seed: what was added to the seeds of its base.
        state: outcome of the run: ``ran``, ``unchanged``, ``failed``, ``stopped`` or ``not started``.
        message: why it failed.
        figures: in percent by backbone and `Benchmark.key`; without those that this run did not bring up
            to date.
        protocols: by which these were measured, in short.
        pretraining: metrics.json of pretraining, empty when it is not up to date.
    """

    name: str
    seed: int
    state: str
    message: str
    figures: dict[str, dict[str, float]]
    protocols: dict[str, dict[str, str]]
    pretraining: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ComparedRow:
    """The runs of a row, one per seed.

    Attributes:
        name: for programs.
        title: for people.
        runs: at least one, the base's own seeds first.
        setup: of the runs.
        digest: of their parameters without the seeds.
        published: the paper's model of this row, or None.
        differences: what of the set-up is not the published model's, as names of its fields.
        parameters: those of pretraining and of the benchmarks in `PUBLISHED_KEYS` that are not the
            paper's, in words.
    """

    name: str
    title: str
    runs: list[SeedRun]
    setup: Setup
    digest: str = ""
    published: PublishedModel | None = None
    differences: list[str] = field(default_factory=list)
    parameters: list[str] = field(default_factory=list)

    @property
    def state(self) -> str:
        """Return the worst state of a run."""
        states = [run.state for run in self.runs]
        return next((state for state in (*BAD_STATES, "ran") if state in states), states[0])

    @property
    def pretraining(self) -> dict[str, float]:
        """Return the means of pretraining's figures; those of a single run as they are."""
        numbers = [
            {key: value for key, value in run.pretraining.items() if isinstance(value, int | float)}
            for run in self.runs
        ]
        if len(numbers) == 1:
            return numbers[0]
        return {
            key: statistics.fmean([of[key] for of in numbers if key in of])
            for key in dict.fromkeys(key for of in numbers for key in of)
        }

    def backbones(self) -> list[str]:
        """Return the names of those that a run has a figure of, without the pretrained one."""
        names = dict.fromkeys(name for run in self.runs for name, of in run.figures.items() if of)
        return [name for name in names if name != PRETRAINED]

    def measured(self) -> Iterable[str]:
        """Return the keys of the pretrained backbone's figures."""
        return dict.fromkeys(key for run in self.runs for key in run.figures.get(PRETRAINED, {}))

    def protocols(self, key: str, backbone: str = PRETRAINED) -> list[str]:
        """Return the protocols by which a backbone's figure was measured, run by run."""
        known = [run.protocols.get(backbone, {}) for run in self.runs]
        return [of[key] for of in known if key in of]

    def figure(self, key: str, backbone: str = PRETRAINED) -> Spread | None:
        """Return a backbone's figure; None where no run has it."""
        values = {run.seed: of[key] for run in self.runs if key in (of := run.figures.get(backbone, {}))}
        return Spread(values) if values else None

    def gain(self, key: str) -> Spread | None:
        """Return percentage points above the random backbone of the same runs, and of the same protocol."""
        ours, random = self.figure(key), self.figure(key, PAIR[1])
        alike = len({*self.protocols(key), *self.protocols(key, PAIR[1])}) == 1
        return ours.minus(random) if ours and random and alike else None


@dataclass(frozen=True, slots=True)
class Comparison:
    """A family.

    Attributes:
        family: its name.
        title: what its rows differ in.
        base: what they were laid over.
        paper_base: preset with the set-up of the paper's rows, or None.
        rows: in the order of the table.
        noise: by `Benchmark.key`, how far apart two single runs of one of these rows may lie by chance
            (95 %), where `virtex ablate seeds` has measured it and these rows have one seed each.
    """

    family: str
    title: str
    base: str
    paper_base: str | None
    rows: list[ComparedRow]
    noise: dict[str, float] = field(default_factory=dict)

    @property
    def has_seeds(self) -> bool:
        """Return whether a row has several."""
        return any(len(row.runs) > 1 for row in self.rows)

    def benchmarks(self) -> list[Benchmark]:
        """Return VOC07, and all other headlines that a row has a figure of."""
        found = {key for row in self.rows for key in row.measured()} | {"voc07.mAP"}
        return [one for one in BENCHMARKS if one.is_headline and one.key in found]

    def published_keys(self) -> tuple[str, ...]:
        """Return keys of the paper's figures to show: those of each model, if it has any of these."""
        return PUBLISHED_KEYS if any(row.published for row in self.rows) else ()

    def above_first(self, row: ComparedRow, key: str) -> Spread | None:
        """Return a row's figure minus the first row's, seed by seed; None for that row itself.

        There is none between figures of different protocols.
        """
        first = self.rows[0]
        if row is first or self.mark(first, key) or self.mark(row, key):
            return None
        ours, theirs = row.figure(key), first.figure(key)
        return ours.minus(theirs) if ours and theirs else None

    def mark(self, row: ComparedRow, key: str, backbone: str = PRETRAINED) -> str:
        """Return what stands beside a figure of another protocol than the column's first; else nothing."""
        column = (
            by
            for one in self.rows
            for name in (PRETRAINED, *one.backbones())
            for by in one.protocols(key, name)
        )
        return OTHER_PROTOCOL_MARK if {*row.protocols(key, backbone)} - {next(column, "")} else ""

    @property
    def has_marks(self) -> bool:
        """Return whether a figure is marked."""
        return any(
            self.mark(row, benchmark.key, name)
            for row in self.rows
            for benchmark in BENCHMARKS
            for name in (PRETRAINED, *row.backbones())
        )

    def baseline_rows(self) -> list[tuple[str, str, dict[str, float], dict[str, str]]]:
        """Return baseline, backbone, mean figures, marks: one a pair, from the first row that has it."""
        found: dict[tuple[str, str], tuple[dict[str, float], dict[str, str]]] = {}
        for row in self.rows:
            for name in row.backbones():
                figures = {b.key: spread.mean for b in BENCHMARKS if (spread := row.figure(b.key, name))}
                marks = {key: self.mark(row, key, name) for key in figures}
                known, known_marks = found.get((name, row.setup.backbone), ({}, {}))
                found[name, row.setup.backbone] = {**figures, **known}, {**marks, **known_marks}
        return [(*pair, *of) for pair, of in found.items()]


def read_comparison(request: Path) -> Comparison:
    """Gather what ``request`` names.

    Args:
        request: JSON with the fields of `Comparison`, ``noise`` being the comparison.json of the family
            ``seeds``, which need not exist; each of its ``rows``, one per run, has ``name``, ``row`` and
            ``seed``, ``title``, ``workspace``, ``state``, ``message``, ``stages`` (what its run did, by
            stage) and ``published`` (name of a published model, or null: that of the same model and data,
            if any).

    Raises:
        InputError: for a workspace without good parameters.
    """
    written = read_json(request)
    rows: dict[str, ComparedRow] = {}
    for of_run in written["rows"]:
        row = _row(of_run)
        rows.setdefault(row.name, replace(row, runs=[])).runs.extend(row.runs)
    made = Comparison(
        written["family"], written["title"], written["base"], written["paper_base"], [*rows.values()]
    )
    if not made.has_seeds:
        made.noise.update(_noise(Path(written["noise"]), made.rows))
    return made


def _noise(path: Path, rows: Sequence[ComparedRow]) -> dict[str, float]:
    """Return what the family ``seeds`` says of a run with parameters and protocols of a row; else nothing."""
    from scipy.special import stdtrit

    if not path.is_file():
        return {}
    try:
        (row,) = read_json(path)["rows"]
        same = next((one for one in rows if one.digest == row["digest"]), None)
        if same is None:
            return {}
        protocols = row["protocols"]
        values = {
            key: [*of.values()]
            for key, of in row["seeds"].items()
            if len(of) > 1 and {*protocols[key]} == {*same.protocols(key)}
        }
    except (OSError, ValueError, KeyError):
        return {}
    return {
        key: math.sqrt(2) * statistics.stdev(of) * float(stdtrit(len(of) - 1, 0.975))
        for key, of in values.items()
    }


def _row(written: Mapping[str, Any]) -> ComparedRow:
    """Return a row with its one run."""
    presets = PRESETS_DIR.absolute()
    with contextlib.chdir(written["workspace"]):
        sections = params.check_params()
        asked = sections["benchmarks"]
        assert isinstance(asked, params.Benchmarks)
        setup = read_setup(sections)
        results = read_results(setup, asked)
        pretraining = read_metrics(stage_dir("pretrain"), [])
        published = _published(written["published"], setup)
        parameters = _parameters(published, presets, results) if published else []
        digest = digest_without_seeds(load_yaml(PARAMS))
    good = {name for name, state in written["stages"].items() if state in GOOD_STATES}
    names = dict.fromkeys([PRETRAINED, *(name for result in results for name in result.figures)])
    figures = {name: _figures(results, name, good) for name in names}
    run = SeedRun(
        written["name"],
        written["seed"],
        written["state"],
        written["message"],
        figures,
        {name: {key: by for key, by in _protocols(results, name) if key in figures[name]} for name in names},
        pretraining if "pretrain" in good else {},
    )
    differences = setup_differences(setup, published) if published else []
    title, name = written["title"], written["row"]
    return ComparedRow(name, title, [run], setup, digest, published, differences, parameters)


def _parameters(published: PublishedModel, presets: Path, results: Sequence[Result]) -> list[str]:
    """List what differs from the paper, in the workspace that is the working directory."""
    protocol = read_protocol(published, folder=presets)
    if protocol.preset is None:
        return ["no preset of the published model is here to hold them against"]
    found = [*parameter_differences(protocol, *PRETRAINING_SECTIONS)]
    for result in results:
        if result.benchmark.key in PUBLISHED_KEYS:
            found += benchmark_differences(result, protocol)
    return found


def _published(name: str | None, setup: Setup) -> PublishedModel | None:
    """Return the model of that name, else the one of the same architecture and data, if any."""
    if name:
        return next(model for model in MODELS if model.name == name)
    same = same_model(setup)
    data = ("captions", "captioned_images", "captions_per_image")
    return same if same and all(getattr(same.setup, n) == getattr(setup, n) for n in data) else None


def _protocols(results: Sequence[Result], backbone: str) -> Iterable[tuple[str, str]]:
    return ((of.benchmark.key, of.protocols[backbone]) for of in results if backbone in of.protocols)


def _figures(results: Sequence[Result], backbone: str, good: set[str]) -> dict[str, float]:
    """Return a backbone's figures; those of stages that are not up to date belong to other parameters."""
    return {
        result.benchmark.key: value
        for result in results
        if (value := result.value(backbone)) is not None and result.benchmark.stage(backbone) in good
    }
