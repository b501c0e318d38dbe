"""Times of earlier runs, from an MLflow store."""

from types import SimpleNamespace

import pytest

from components.tracking.provenance import HOST_TAG, PROCESS_TAG
from components.tracking.run import STAGE_TAG, WAITED_TAG
from pipelines.status import costs
from pipelines.status.costs import Cost, CostsUnknown, chosen_costs, cost_query, finished_runs

HOST = "this-one"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("socket.gethostname", lambda: HOST)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def run(seconds: float, size: int = 1, host: str = HOST) -> dict:
    return {
        "stage": "pretrain",
        "host": host,
        "seconds": seconds,
        "params": {"schedule.iterations": str(size)},
    }


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([run(5), run(9), run(7)], Cost(9, True)),
        ([run(5, 2), run(9, 2)], Cost(5, False)),
        ([run(99, 2), run(5)], Cost(5, True)),
        ([run(99, host="other"), run(5)], Cost(5, True)),
        ([run(99, host="other"), run(5, 2)], Cost(99, True)),
        ([run(99, 2, host="other"), run(5, 2)], Cost(5, False)),
    ],
)
def test_which_run_tells_the_cost(runs, expected):
    assert chosen_costs(runs, {"schedule": {"iterations": 1}, "voc07": {"folds": 3}}) == {
        "pretrain": expected
    }


def test_without_a_store_nothing_is_known_and_none_is_made(tmp_path):
    with cost_query() as query:
        assert query.costs({}) == {}
    assert not list(tmp_path.iterdir())


def test_time_counts_from_the_start_of_the_process(monkeypatch):
    """The real store is asked in tests/browser."""
    ended = 1_800_000_000
    tags = {STAGE_TAG: "voc07@virtex", HOST_TAG: HOST, PROCESS_TAG: f"7 {ended - 65}"}
    stored = SimpleNamespace(
        info=SimpleNamespace(start_time=(ended - 60) * 1000, end_time=ended * 1000),
        data=SimpleNamespace(tags=tags, params={"voc07.folds": "3"}),
    )
    client = SimpleNamespace(
        get_experiment_by_name=lambda name: SimpleNamespace(experiment_id="1"),
        search_runs=lambda *_, **__: [stored],
    )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setattr("mlflow.MlflowClient", lambda uri: client)
    expected = {"stage": "voc07@virtex", "host": HOST, "seconds": 65.0, "params": {"voc07.folds": "3"}}
    assert finished_runs() == [expected]
    tags |= {PROCESS_TAG: f"7 {ended - 5000}", WAITED_TAG: "4935.5"}  # for another one of the same stage
    assert finished_runs() == [expected | {"seconds": 64.5}]
    del tags[WAITED_TAG]
    tags[PROCESS_TAG] = f"7 {ended + 5}"  # another process with the same number
    assert finished_runs() == [expected | {"seconds": 60.0}]


def test_a_store_that_is_away_is_said(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with cost_query() as query, pytest.raises(CostsUnknown, match="Connection"):
        query.costs({})


def test_a_query_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(costs, "DEADLINE_SECONDS", 0.01)
    with cost_query() as query:
        with pytest.raises(CostsUnknown, match="nothing after"):
            query.costs({})
        process = query._process
    assert process.poll() is not None
