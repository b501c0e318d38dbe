"""What Prefect's server knows of a stage, and what the example automations make of it."""

import io
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.tracking.pipeline_run import REPORT, REPORT_PAGE
from pipelines import prefect_runs as module
from pipelines.graph import Stage
from pipelines.prefect_runs import BEST, FAILED, StageNews, prefect_says_it_once
from pipelines.record import page_line
from pipelines.stage import Log, Outcome, Outcomes

ADDRESS = (
    "http://host:5000/#/experiments/7/runs/abc/artifacts/report/report.html?workflowType=machine_learning"
)
AUTOMATIONS = Path(__file__).resolve().parents[2] / "deploy" / "automations.yaml"
LINES = (
    "hello",
    "iteration 10/40 (25%), 80.1 images/s, 0:00:30 left, loss 4.2",
    "iteration 30/40 (75%), 81.0 images/s, 0:00:10 left, loss 4.1",
    "iteration 30/40 of something else",
    "backbone: version 2 of virtex-backbone-resnet18, the best so far",
)


class OneStage(Outcomes):
    """Stands for a runner: the stage prints these lines and then fails."""

    def run(self, stage: Stage, log: Log, absent: Sequence[Stage] = ()) -> Outcome:
        for line in LINES:
            log(line)
        return self._note(Outcome(stage.name, "failed", 1.0, "pretrain: error: out of memory\nmore"))


@pytest.fixture(scope="module")
def server(prefect_harness: Any) -> Iterator[Any]:
    from prefect.client.orchestration import get_client

    with prefect_harness(), get_client(sync_client=True) as client:
        yield client


def soon(ask: Callable[[], Any]) -> Any:
    """What it answers once that is something; the server handles events in its own time."""
    limit = time.monotonic() + 60
    while not (answer := ask()):
        assert time.monotonic() < limit, "nothing came"
        time.sleep(0.2)
    return answer


def events_of(client: Any, name: str) -> list[dict[str, Any]]:
    asked = {"filter": {"event": {"name": [name]}}}
    return client._client.post("/events/filter", json=asked).json()["events"]


@pytest.mark.integration
def test_a_stage_at_work_and_the_automations(server: Any, webhook: Any) -> None:
    from prefect import flow
    from prefect.blocks.notifications import CustomWebhookNotificationBlock
    from prefect.events.schemas.automations import AutomationCore
    from prefect.runtime import flow_run

    from pipelines.run import stage_task

    told = CustomWebhookNotificationBlock(
        name="told", url=webhook.url, json_data={"text": "{{subject}}: {{body}}"}, headers=None, cookies=None
    )
    ours, notified = yaml.safe_load(AUTOMATIONS.read_text(encoding="utf-8"))["automations"]
    notified["enabled"] = True
    notified["actions"][0]["block_document_id"] = str(told.save("told", _sync=True))
    for automation in (ours, notified):
        server._client.post("/automations/", json=json.loads(AutomationCore(**automation).model_dump_json()))

    stage, ids = Stage("pretrain", (), ()), []

    @flow
    def one_stage() -> None:
        ids.append(str(flow_run.id))
        stage_task(stage, OneStage(), None, False, (), return_state=True)
        soon(lambda: (run := server.read_flow_run(ids[0])).state.is_cancelling() or run.state.is_cancelled())

    one_stage(return_state=True)
    (artifact,) = server._client.post("/artifacts/filter", json={}).json()
    assert (artifact["type"], artifact["key"], artifact["data"]) == ("progress", "pretrain-progress", 75.0)
    assert artifact["description"] == "iteration 30 of 40, 81.0 images/s, 0:00:10 left, loss 4.1"
    assert artifact["flow_run_id"] == ids[0]
    (failed,) = soon(lambda: events_of(server, FAILED))
    assert failed["resource"]["prefect.resource.id"] == "virtex.stage.pretrain"
    assert failed["payload"] == {"message": "pretrain: error: out of memory"}
    assert f"prefect.flow-run.{ids[0]}" in {one["prefect.resource.id"] for one in failed["related"]}
    (best,) = soon(lambda: events_of(server, BEST))
    assert best["payload"]["version"] == "2"
    assert soon(lambda: webhook.taken)[0] == {"text": f"A new best backbone: {LINES[-1]}"}


def test_lines_of_pretraining_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    """As training writes them where no terminal is."""
    from components.training.metrics import Progress

    sent: list[float] = []
    monkeypatch.setattr(module, "create_progress_artifact", lambda share, **options: sent.append(share))
    monkeypatch.setattr(module, "update_progress_artifact", lambda _, share, **options: sent.append(share))
    stream = io.StringIO()
    with Progress(40, 0, stream) as progress:
        progress.show({"loss": 4.25})
        progress.advance(64)
    with StageNews(Stage("pretrain", (), ()), lambda line: None) as told:
        told.line(stream.getvalue().rstrip("\n"))
    assert sent
    assert set(sent) == {2.5}


def test_a_silent_server_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError("away")

    monkeypatch.setattr(module, "create_progress_artifact", refuse)
    monkeypatch.setattr(module, "emit_event", lambda *arguments, **options: None)
    shown: list[str] = []
    with StageNews(Stage("pretrain", (), ()), shown.append) as told:
        for line in LINES:
            told.line(line)
    assert shown == list(LINES)


def test_a_failure_and_what_is_below_it_are_said_once(caplog):
    logger = logging.getLogger("prefect.task_runs")
    with caplog.at_level(logging.INFO), prefect_says_it_once():
        logger.error("Task run failed with state: Failed(message='x')", exc_info=True)
        logger.error("""Finished in state NotReady("Upstream task run 'a'")""")
        logger.error("Finished in state Failed('x')")
        logger.error("last failed:\nx")
        logger.info("Finished in state Completed()")
    logger.error("Finished in state Failed('y')")
    said = ["last failed:\nx", "Finished in state Completed()", "Finished in state Failed('y')"]
    assert [r.message for r in caplog.records] == said


@pytest.mark.parametrize("address", [ADDRESS, None])
def test_prefect_links_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str | None) -> None:
    made: dict[str, str] = {}
    for kind in ("markdown", "table", "link"):
        monkeypatch.setattr(
            module,
            f"create_{kind}_artifact",
            lambda *args, key, **more: made.update({key: str(args[0] if args else more)}),
        )
    (tmp_path / REPORT).parent.mkdir(parents=True)
    (tmp_path / REPORT).write_text("# What")
    module.publish(tmp_path, [], address, is_reported=True)
    line = page_line(tmp_path, address)
    assert made["report"] == f"{line}\n\n# What"
    assert (address or str(tmp_path / REPORT_PAGE)) in line
    assert made.get("report-page") == address


def test_a_report_of_an_earlier_run_is_not_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    for kind in ("markdown", "table", "link"):
        monkeypatch.setattr(module, f"create_{kind}_artifact", lambda *args, key, **more: made.append(key))
    (tmp_path / REPORT).parent.mkdir(parents=True)
    (tmp_path / REPORT).write_text("# What")
    module.publish(tmp_path, [], ADDRESS, is_reported=False)
    assert made == ["stages"]
