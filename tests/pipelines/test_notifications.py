"""The webhook hears how a run ended, and never makes one fail."""

import logging

import pytest
import requests

from pipelines import notifications
from pipelines.notifications import WEBHOOK_VARIABLE, errors_announced, message, notify, results

TABLE = [{"stage": "voc07@virtex", "state": "ran", "seconds": 2.5, "run_id": "a1"}]


@pytest.fixture(autouse=True)
def address(webhook, monkeypatch):
    monkeypatch.setenv(WEBHOOK_VARIABLE, webhook.url)
    monkeypatch.setattr(notifications, "_BACKOFF_SECONDS", 0.01)
    monkeypatch.setattr(notifications, "_TIMEOUT_SECONDS", (0.5, 0.3))


def test_what_is_sent(webhook):
    links = {"MLflow": "http://mlflow/run", "Prefect": None}
    sent = message("demo", "failed", TABLE, {"lmdb": "lmdb: bad image\nmore"}, {"virtex.mAP": 20.91}, links)
    assert notify(sent)
    (taken,) = webhook.taken
    assert taken == sent
    assert taken["text"] == "\n".join(
        ["demo: failed", "lmdb failed: lmdb: bad image", "virtex.mAP: 20.91", "MLflow: http://mlflow/run"]
    )
    assert (taken["run"], taken["state"]) == ("demo", "failed")
    assert taken["stages"] == {"voc07@virtex": "ran"}
    assert taken["seconds"] == {"voc07@virtex": 2.5}
    assert taken["links"] == {"MLflow": "http://mlflow/run"}


@pytest.mark.parametrize("answers", [[500], [503, 429], [500, 502, 503, 504]])
def test_it_tries_again(webhook, answers):
    webhook.answers = list(answers)
    assert notify(message("demo", "completed"))
    assert len(webhook.taken) == len(answers) + 1


@pytest.mark.parametrize(
    ("answers", "times"), [([500] * 9, 5), ([404], 1), ([302], 1)], ids=["busy", "gone", "redirect"]
)
def test_a_run_does_not_fail_for_it(webhook, answers, times, caplog):
    webhook.answers = list(answers)
    with caplog.at_level(logging.WARNING):
        assert not notify(message("demo", "completed"))
    assert len(webhook.taken) == times
    assert f"{WEBHOOK_VARIABLE} did not receive the end of the run" in caplog.text
    assert "secret" not in caplog.text


def test_chat_rooms_and_mail_hear_it_by_apprise(webhook, monkeypatch):
    monkeypatch.setenv(WEBHOOK_VARIABLE, webhook.url.replace("http://", "json://"))
    assert notify(message("demo", "failed", TABLE, {"lmdb": "lmdb: bad image\nmore"}))
    (taken,) = webhook.taken
    assert (taken["title"], taken["message"], taken["type"]) == (
        "demo: failed", "lmdb failed: lmdb: bad image", "failure"
    )  # fmt: skip
    webhook.answers = [500] * 9
    assert not notify(message("demo", "completed"))


def test_slow_to_answer(webhook, monkeypatch):
    monkeypatch.setattr(notifications, "_ATTEMPTS", 2)
    webhook.delay = 0.6
    assert not notify(message("demo", "completed"))
    assert len(webhook.taken) == 2


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/secret", "not an address", "ftp://example.org/x", "json://127.0.0.1:9/secret"]
)
def test_nobody_there(monkeypatch, url, caplog):
    monkeypatch.setenv(WEBHOOK_VARIABLE, url)
    with caplog.at_level(logging.WARNING):
        assert not notify(message("demo", "completed"))
    assert "secret" not in caplog.text


def test_without_an_address_nothing_is_sent(webhook, monkeypatch):
    monkeypatch.setenv(WEBHOOK_VARIABLE, "")
    monkeypatch.setattr(requests, "Session", None)
    assert not notify(message("demo", "completed"))
    assert webhook.taken == []


def test_an_error_before_the_first_stage_is_told_and_passed_on(webhook):
    with pytest.raises(ValueError, match="bad preset"), errors_announced("demo"):
        raise ValueError("bad preset")
    assert webhook.taken[0]["errors"] == {"run": "bad preset"}


def test_results_are_the_reports_figures(tmp_path):
    assert results(tmp_path) == {}
    path = tmp_path / "outputs" / "report" / "metrics.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"virtex": {"mAP": 20.9}, "note": "text"}')
    assert results(tmp_path) == {"virtex.mAP": 20.9}
