"""Times of the stages, from a real SQLite store in a temporary folder."""

import json
from pathlib import Path

import pytest
from hostile_texts import MARKDOWN, MARKUP
from markdown_it import MarkdownIt

from components.tracking import stage_run
from components.tracking.pipeline_run import as_markdown, stage_times, table_row
from components.tracking.store import open_store, run_page


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
        run.describe("The report as one page", "report.html")
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
    link = f"#/experiments/{store.experiment_id}/runs/{second.run_id}/artifacts/report.html"
    noted = store.client.get_run(second.run_id).data.tags["mlflow.note.content"]
    assert noted == f"[The report as one page]({link})"
    assert run_page(store._replace(uri="http://host:5000/"), "abc") == (
        f"http://host:5000/#/experiments/{store.experiment_id}/runs/abc"
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
