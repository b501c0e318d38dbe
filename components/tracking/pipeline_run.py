"""The run of a whole pipeline in MLflow: its name, its table of stages and their times, its figures, its end.

The flow of ``virtex run`` closes it; under plain ``dvc repro`` each stage does (components.tracking.repro).
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from components.core.errors import InputError, first_line
from components.core.files import read_json_object
from components.core.foreign_text import markdown_text, said
from components.core.logs import own_logger
from components.core.paths import MLFLOW_RUN_FILE, OUTPUTS_DIR, PARAMS, REPORT_DIR, stage_dir
from components.params import check_params, matching_presets
from components.params.presets import nearest_presets
from components.params.yaml_files import load_yaml
from components.tracking.metrics import flatten, numbers
from components.tracking.models import logged_model
from components.tracking.provenance import close_orphaned_runs, provenance
from components.tracking.run import Record
from components.tracking.run import create_run as create_run_below
from components.tracking.store import AccessRefused, Store, open_store, page_link, run_page

if TYPE_CHECKING:
    from mlflow.entities import Run

REPORT = REPORT_DIR / "report.md"
REPORT_PAGE = REPORT_DIR / "report.html"
NOT_RUN = "not run"
GOOD_STATES = ("unchanged", "restored", "ran", NOT_RUN)
RUN_STATUS = {"completed": "FINISHED", "failed": "FAILED", "cancelled": "KILLED"}
FLOW_TAG = "virtex.flow"
PRESET_TAG = "preset"
RUN_NAME_VARIABLE = "VIRTEX_RUN_NAME"
OWN_PARAMETERS = "own parameters"
Row = dict[str, str | float | None]

_FEW_CHANGES = 3  # that a run's name tells
_LONGEST_CHANGE = 60  # characters; of a longer one the key alone
_PRETRAINING_FIGURES = ("train_loss", "val_loss", "perplexity", "images_per_second", "seconds")
_logger = own_logger(__name__)


class PipelineRecord:
    """The parent run, or nothing at all when the tracking server is away.

    Attributes:
        run_id: handed to the stages; None if there is no run.
    """

    def __init__(self, root: Path, store: Store | None, record: Record | None) -> None:
        self._root = root
        self._store = store
        self._record = record
        self.run_id = record.run_id if record else None

    @property
    def page(self) -> str | None:
        """Address of the run's page; None without a run, or where MLflow is a file."""
        return self._page()

    @property
    def report_page(self) -> str | None:
        """Address of the report's page in MLflow; None without a run, or where MLflow is a file."""
        return self._page(f"/artifacts/report/{REPORT_PAGE.name}")

    def _page(self, tab: str = "") -> str | None:
        return run_page(self._store, self.run_id, tab) if self._store and self.run_id else None

    def stage_runs(self) -> dict[str, str]:
        """Return the ids of the runs below this one, by DVC stage."""
        if not (self._store and self.run_id):
            return {}
        try:
            children = self._store.client.search_runs(
                [self._store.experiment_id], filter_string=f"tags.mlflow.parentRunId = '{self.run_id}'"
            )
        except Exception as error:
            _logger.warning("MLflow did not list the stages' runs (%s)", type(error).__name__)
            return {}
        return {child.data.tags.get("dvc.stage", ""): child.info.run_id for child in reversed(children)}

    def close(
        self,
        table: Sequence[Row],
        end: str,
        report_dir: Path | None = None,
        errors: Mapping[str, str] = MappingProxyType({}),
        links: Mapping[str, str | None] = MappingProxyType({}),
    ) -> None:
        """Store the table, the lock file and the parameters, and end the run.

        Args:
            table: one row per stage.
            end: ``completed``, ``failed`` or ``cancelled``.
            report_dir: of a report that belongs to this run, stored with its figures.
            errors: messages of what failed, by stage.
            links: more addresses for the description, by what they show.
        """
        if not (self._record and self._store):
            return
        self._end_stage_runs()
        stages = as_markdown(table, self._store.experiment_id)
        self._record.text(stages, "stages.md")
        self._record.text(json.dumps(list(table), indent=2) + "\n", "stages.json")
        self._record.inherit_datasets(str(row["run_id"]) for row in table if row["run_id"])
        for name in (str(PARAMS), "dvc.lock"):
            if (self._root / name).is_file():  # as text, which the record frees from secrets
                self._record.text((self._root / name).read_text(encoding="utf-8"), name)
        if report_dir:
            self._record.artifact(report_dir, "report")
            self._record.log(_headline(report_dir / "metrics.json"))
            self._record.log(_pretraining(self._root))
        if report_dir and (report_dir / REPORT_PAGE.name).is_file():
            page = ("The report as one page", f"report/{REPORT_PAGE.name}")
        else:
            page = ("Stages", "stages.md")
        shown = {**links, "Model": self._model_page(table)}
        others = "".join(f" · [{title}]({link})" for title, link in shown.items() if link)
        self._record.describe(_outcome(table, end, report_dir, errors), *page, f"{others}\n\n{stages}")
        self._record.close(RUN_STATUS[end])

    def _model_page(self, table: Sequence[Row]) -> str | None:
        """Return MLflow's page of the backbone that the runs of the table have logged."""
        assert self._store
        try:
            for row in table:
                model = row["run_id"] and logged_model(self._store, str(row["run_id"]), "backbone")
                if model:
                    return page_link(self._store.experiment_id, f"models/{model}")
        except Exception as error:
            _logger.warning("MLflow did not find the run's model (%s)", type(error).__name__)
        return None

    def _end_stage_runs(self) -> None:
        """End runs that are open although no stage is at work: their process or machine crashed."""
        assert self._store
        below = f"tags.mlflow.parentRunId = '{self.run_id}' and attributes.status = 'RUNNING'"
        try:
            for run in self._store.client.search_runs([self._store.experiment_id], filter_string=below):
                self._store.client.set_terminated(run.info.run_id, RUN_STATUS["cancelled"])
        except Exception as error:
            _logger.warning("MLflow did not end the runs of crashed stages (%s)", type(error).__name__)


def _outcome(table: Sequence[Row], end: str, report_dir: Path | None, errors: Mapping[str, str]) -> str:
    """Say what came of a run, in a sentence: its result, or why there is none."""
    if errors:
        return "; ".join(f"{stage} failed: {first_line(text)}" for stage, text in errors.items())
    if end != "completed":
        amiss = [str(row["stage"]) for row in table if row["state"] not in GOOD_STATES]
        return f"{end.capitalize()}; without a result: {', '.join(amiss)}"
    report = read_json_object(report_dir / "report.json") if report_dir else {}
    return str(report.get("headline", "Completed"))


def run_name(known: str) -> str:
    """Name a run for people: ``known`` and the time, ``demo · 2026-11-22 14:05``.

    ``VIRTEX_RUN_NAME`` names it otherwise.
    """
    return f"{os.environ.get(RUN_NAME_VARIABLE) or known} · {time.strftime('%Y-%m-%d %H:%M')}"


def preset_in_force() -> str:
    """Return the most specific preset whose values params.yaml has, else ``own parameters``."""
    return next(iter(matching_presets()), OWN_PARAMETERS)


def parameters_in_words(preset: str | None = None, overrides: Sequence[str] = ()) -> str:
    """Say what params.yaml is: the preset, else the nearest, and what differs from it.

    ``demo + schedule.iterations=30``; with many differences, how many more. The ``overrides`` that were laid
    over it are told even where the preset has no such key.
    """
    presets = dict(nearest_presets()) if PARAMS.is_file() else {}
    name = preset if preset in presets else next(iter(presets), None)
    if name is None:
        return in_words(preset or OWN_PARAMETERS, overrides)
    changed = dict(presets[name])
    others = [change for change in overrides if change.partition("=")[0].strip() not in changed]
    return in_words(name, [*(f"{key}={value}" for key, value in changed.items()), *others])


def in_words(preset: str, changes: Sequence[str]) -> str:
    """Return a preset with the changes to it, ``KEY=VALUE`` each."""
    shown = [change if len(change) <= _LONGEST_CHANGE else change.partition("=")[0] for change in changes]
    if more := len(shown) - _FEW_CHANGES:
        shown = [*shown[:_FEW_CHANGES], f"{more} more"] if more > 0 else shown
    return said(f"{preset} + {', '.join(shown)}" if shown else preset)


def all_params(path: Path = PARAMS) -> dict[str, object]:
    """Return every parameter of params.yaml as ``section.key``; nothing where there is no such file.

    Each has the form that it has in the stages' runs, where 1 may be 1.0.
    """
    try:
        return dict(flatten(check_params(path))) if path.is_file() else {}
    except InputError:  # which the run itself says
        return dict(flatten(load_yaml(path)))


def create_flow_run(
    store: Store,
    name: str,
    flow: str,
    source: str,
    parent_run_id: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> str:
    """Create the run and close those of the same ``flow`` whose process no longer exists; return its id.

    Raises whatever MLflow raises.
    """
    close_orphaned_runs(store, FLOW_TAG, flow)
    return create_run_below(
        store, provenance(name, source) | {FLOW_TAG: flow} | dict(tags or {}), parent_run_id
    )


def create_run(
    root: Path, name: str, flow: str, settings: Mapping[str, object], parent_run_id: str | None = None
) -> tuple[Store, Record] | None:
    """Create the MLflow run of a flow, with ``settings`` and params.yaml as its parameters.

    Return None if the store is out of reach. Open runs of the same flow whose process is gone are closed.

    Raises:
        AccessRefused: nothing has been done yet, so a password had better be corrected first.
    """
    try:
        from components.tracking.repro import complete_left_records

        store = open_store()
        complete_left_records(store)
        tags = {PRESET_TAG: preset_in_force()}
        run_id = create_flow_run(store, name, flow, "pipelines.run", parent_run_id, tags)
        record = Record(store, run_id, root / OUTPUTS_DIR)
    except AccessRefused:
        raise
    except Exception as error:
        _logger.warning(
            "No MLflow run for this pipeline run, the tracking store is out of reach (%s: %s). The work goes "
            "on; its figures are in outputs/.",
            type(error).__name__,
            first_line(error),
        )
        return None
    record.params({**settings, **all_params(root / PARAMS)})
    return store, record


def table_row(
    root: Path, stage: str, outs: Sequence[str], state: str, seconds: float, run_id: str | None
) -> Row:
    """Return a stage's row; without a run of its own in this one, it names the run that made its outputs."""
    run_id = run_id or recorded_run(root, outs)
    return {"stage": stage, "state": state, "seconds": round(seconds, 1), "run_id": run_id}


def recorded_run(root: Path, outs: Sequence[str]) -> str | None:
    """Return the MLflow run that made a stage's outputs as they are now."""
    return next((_run_id(root / out) for out in outs if Path(out).name == MLFLOW_RUN_FILE), None)


def _run_id(run_file: Path) -> str | None:
    run_id = read_json_object(run_file).get("run_id")
    return str(run_id) if run_id else None


def as_markdown(table: Sequence[Row], experiment_id: str | None = None) -> str:
    """Return the rows as Markdown; run ids link into the MLflow UI if the experiment is known."""
    lines = ["| stage | state | seconds | MLflow run |", "|---|---|---:|---|"]
    for row in table:
        run_id = row["run_id"]
        if run_id and experiment_id:
            run_id = f"[{str(run_id)[:8]}]({page_link(experiment_id, f'runs/{run_id}')})"
        stage = markdown_text(row["stage"]).replace("|", r"\|")
        lines.append(f"| {stage} | {row['state']} | {row['seconds']} | {run_id or ''} |")
    return "\n".join(lines) + "\n"


def _pretraining(root: Path) -> dict[str, float]:
    """Return what tells runs apart in MLflow's table besides the report's figures."""
    figures = _headline(root / stage_dir("pretrain") / "metrics.json")
    return {f"pretrain.{name}": figures[name] for name in _PRETRAINING_FIGURES if name in figures}


def _headline(path: Path) -> dict[str, float]:
    return {key: value for key, value in numbers(read_json_object(path)).items() if math.isfinite(value)}


@dataclass(frozen=True, slots=True)
class StageTime:
    """One stage's last real run.

    Attributes:
        stage: as DVC names it, ``voc07@random``.
        run_id: in MLflow.
        started: UTC, ISO 8601 to the second.
        seconds: wall-clock time of the stage's process from its record's opening to its end.
        link: page of the run, None where MLflow is a file of this machine.
    """

    stage: str
    run_id: str
    started: str
    seconds: float
    link: str | None


def stage_times(outputs_dir: Path) -> list[StageTime]:
    """Return the times of the run files below ``outputs_dir``, in order of their starts.

    Empty, with a warning, when the tracking store is out of reach. Runs that it does not know, or that have
    not ended, are left out.
    """
    try:
        store = open_store()
    except Exception as error:
        _logger.warning("MLflow is out of reach (%s): no stage times", type(error).__name__)
        return []
    places = (f"{folder}/{MLFLOW_RUN_FILE}" for folder in ("*", "*/*", "benchmarks/*/*"))
    files = (path for place in places for path in outputs_dir.glob(place))
    ids = {run_id for path in files if (run_id := _run_id(path))}
    runs = [run for run_id in ids if (run := _ended_run(store, run_id)) is not None]
    return [_time(store, run) for run in sorted(runs, key=lambda run: (run.info.start_time, run.info.run_id))]


def _ended_run(store: Store, run_id: str) -> Run | None:
    try:
        run = store.client.get_run(run_id)
    except Exception:  # made in another store
        return None
    return run if run.info.start_time and run.info.end_time else None


def _time(store: Store, run: Run) -> StageTime:
    started = datetime.fromtimestamp(run.info.start_time / 1000, UTC)
    return StageTime(
        stage=run.data.tags.get("dvc.stage") or run.info.run_name or run.info.run_id,
        run_id=run.info.run_id,
        started=started.isoformat(timespec="seconds"),
        seconds=round((run.info.end_time - run.info.start_time) / 1000, 1),
        link=run_page(store, run.info.run_id),
    )
