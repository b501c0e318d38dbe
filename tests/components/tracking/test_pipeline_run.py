"""Times of the stages, from a real SQLite store in a temporary folder."""

import json
import re
from pathlib import Path

import pytest
from hostile_texts import MARKDOWN, MARKUP
from markdown_it import MarkdownIt
from mlflow import MlflowClient, create_external_model
from mlflow.entities import Experiment
from mlflow.exceptions import MlflowException

from components.params import check_params
from components.tracking import stage_run
from components.tracking.pipeline_run import (
    PipelineRecord,
    all_params,
    as_markdown,
    in_words,
    parameters_in_words,
    stage_times,
    table_row,
)
from components.tracking.run import Record, log_params
from components.tracking.store import VIEW_TAG, _experiment, open_store, run_page

REPOSITORY = Path(__file__).resolve().parents[3]
TRAINING = "?workflowType=machine_learning"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "VIRTEX_PARENT_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_times_of_runs_that_ended(workspace: Path) -> None:
    with stage_run("voc07", "random", {}):
        pass
    with stage_run("tokenize", None, {}) as run:
        run.describe("Pretraining helped.", "The report as one page", "report.html")
        (open_one,) = [time.stage for time in stage_times(workspace / "outputs")]
    for name, content in (("broken", "{"), ("foreign", json.dumps({"run_id": "0" * 32})), ("none", "[]")):
        folder = workspace / "outputs" / name
        folder.mkdir()
        (folder / "mlflow_run.json").write_text(content)
    first, second = stage_times(workspace / "outputs")
    assert (open_one, first.stage, second.stage) == ("voc07@random", "voc07@random", "tokenize")
    assert first.seconds >= 0
    assert first.started <= second.started
    assert first.link is None
    store = open_store()
    link = f"#/experiments/{store.experiment_id}/runs/{second.run_id}/artifacts/report.html{TRAINING}"
    noted = store.client.get_run(second.run_id).data.tags["mlflow.note.content"]
    assert noted == f"Pretraining helped.\n\n[The report as one page]({link})"
    assert run_page(store._replace(uri="http://host:5000/"), "abc") == (
        f"http://host:5000/#/experiments/{store.experiment_id}/runs/abc{TRAINING}"
    )


def test_mlflow_is_away(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://")
    assert stage_times(workspace / "outputs") == []


def test_names_of_stages_stay_text_in_the_table(tmp_path: Path) -> None:
    names = [*MARKUP, *MARKDOWN]
    table = [table_row(tmp_path, name, (), "failed", 1.0, None) for name in names]
    shown = MarkdownIt("commonmark", {"html": True}).enable("table").render(as_markdown(table))
    assert shown.count("<tr>") == 1 + len(names)
    assert shown.count("<td") == 4 * len(names)
    assert not [tag for tag in ("<script", "<img", "<a ", "<b ", "<svg", "<style", "<iframe") if tag in shown]


def test_a_run_is_called_by_the_nearest_preset_and_what_differs(workspace: Path) -> None:
    assert parameters_in_words() == "own parameters"
    (workspace / "params.yaml").write_text("a: {x: 1, y: [1, 2], z: 3}\nb: {k: 5}\n")
    (workspace / "presets").mkdir()
    (workspace / "presets" / "demo.yaml").write_text("a: {x: 1, y: [1, 2], z: 3}\nb: {k: 5}\n")
    (workspace / "presets" / "other.yaml").write_text("a: {x: 9, y: [7], z: 8}\nb: {k: 6}\n")
    assert parameters_in_words() == "demo"
    (workspace / "params.yaml").write_text("a: {x: 1, y: [1], z: 3}\nb: {k: 5}\n")
    assert parameters_in_words() == "demo + a.y=[1]"
    assert parameters_in_words("demo", ["a.y=[1]", "c.new=2"]) == "demo + a.y=[1], c.new=2"
    assert parameters_in_words("other") == "other + a.x=1, a.y=[1], a.z=3, 1 more"
    assert in_words("demo", [f"a.long={'x' * 99}"]) == "demo + a.long"
    assert in_words("demo", ["download.mirror=https://user:secret@host/"]) == (
        "demo + download.mirror=https://host/"
    )


@pytest.mark.parametrize(
    ("end", "errors", "report", "first"),
    [
        (
            "completed",
            {},
            {"headline": "It helped: 60.1 against 20.2 mAP."},
            "It helped: 60.1 against 20.2 mAP.",
        ),
        ("completed", {}, {}, "Completed"),
        ("failed", {"pretrain": "no such file\nmore"}, None, "pretrain failed: no such file"),
        ("cancelled", {}, None, "Cancelled; without a result: pretrain"),
    ],
)
def test_a_description_begins_with_what_came_of_it(workspace: Path, end, errors, report, first) -> None:
    store = open_store()
    run_id = store.client.create_run(store.experiment_id).info.run_id
    folder = workspace / "outputs" / "report"
    folder.mkdir(parents=True)
    (folder / "report.html").write_text("page")
    (folder / "report.json").write_text(json.dumps(report))
    row = {
        "stage": "pretrain",
        "state": "ran" if end == "completed" else "failed",
        "seconds": 1.0,
        "run_id": None,
    }
    record = PipelineRecord(workspace, store, Record(store, run_id, folder, system_metrics=False))
    model = create_external_model("backbone", run_id, experiment_id=store.experiment_id) if errors else None
    row["run_id"] = run_id
    links = {"Prefect": "http://host/flow", "MLflow": None}
    record.close([row], end, folder if report is not None else None, errors, links)
    lines = store.client.get_run(run_id).data.tags["mlflow.note.content"].splitlines()
    page = f"#/experiments/{store.experiment_id}/runs/{run_id}/artifacts/"
    link = (
        f"[Stages]({page}stages.md{TRAINING})"
        if report is None
        else f"[The report as one page]({page}report/report.html{TRAINING})"
    )
    experiment = f"#/experiments/{store.experiment_id}"
    shown = f" · [Model]({experiment}/models/{model.model_id}{TRAINING})" if model else ""
    assert lines[:5] == [
        first,
        "",
        f"{link} · [Prefect](http://host/flow){shown}",
        "",
        "| stage | state | seconds | MLflow run |",
    ]
    tags = store.client.get_experiment(store.experiment_id).tags
    assert "compares backbones" in tags["mlflow.note.content"]
    view = json.loads(tags[VIEW_TAG])
    assert view["columnOrder"][:2] == ["metrics.`voc07.mAP`", "metrics.`voc07.mAP_gain`"]
    assert view["columnOrder"] == view["selectedColumns"]


def test_an_experiment_whose_view_we_may_not_write_still_takes_runs() -> None:
    class Client(MlflowClient):
        def get_experiment_by_name(self, name: str) -> Experiment:
            return Experiment("7", name, "there", "active", tags=[])

        def set_experiment_tag(self, *_: object) -> None:
            raise MlflowException("PERMISSION_DENIED")

    assert _experiment(Client("http://127.0.0.1:9"), "virtex", None) == "7"


def test_a_parameter_has_one_form_in_the_pipelines_run_and_in_the_stages(workspace: Path) -> None:
    text = (REPOSITORY / "params.yaml").read_text(encoding="utf-8")
    changed = re.sub(r"^(  learning_rate: ).*", r"\g<1>1", text, flags=re.M)
    (workspace / "params.yaml").write_text(changed)
    values = {name: section.model_dump() for name, section in check_params(workspace / "params.yaml").items()}
    store = open_store()
    parent = store.client.create_run(store.experiment_id).info.run_id
    log_params(store, parent, all_params(workspace / "params.yaml"))
    with stage_run("report", None, values) as run:  # as components.entry hands them over
        pass
    whole, stage = (store.client.get_run(run_id).data.params for run_id in (parent, run.run_id))
    assert stage == whole
    assert len(whole) > 200
    assert "1.0" in {value for key, value in whole.items() if key.endswith("learning_rate")}
    (workspace / "params.yaml").write_text("a: {x: [1, 2]}\n")  # of another project
    assert all_params(workspace / "params.yaml") == {"a.x": [1, 2]}
