"""Names that MLflow takes, whatever ours are."""

import math

import pytest

from components.tracking import stage_run
from components.tracking.metrics import flatten, mlflow_name, mlflow_names, numbers
from components.tracking.store import open_store

ODD = (
    "remote (tv)", "remote _tv_", "a//b", "/a", "a/", "a/.", "./a", "../a", "..", ".", "", "...x", "a/../b",
    "lr=0.1", "lmdb@train", "a/b", "100% <&|>", "caf\u00e9", "cafe\u0301", "\u732b", "half \ud83d", "a\nb",
    "tab\t", "x" * 300, "x" * 299 + "y", " ", "a\\b", "C:\\x", "/", "//",
)  # fmt: skip


def test_mlflow_s_own_check_takes_every_name() -> None:
    from mlflow.utils.validation import _validate_metric, _validate_param, _validate_tag

    for name in ODD:
        legal = mlflow_name(name)
        _validate_metric(legal, 1.0, 0, 0)
        _validate_param(legal, "1")
        _validate_tag(legal, "1")
        legal.encode()


def test_no_two_share_a_name_and_legal_ones_stay() -> None:
    names = mlflow_names(ODD)
    assert len(set(names.values())) == len(ODD)
    for name in ("remote _tv_", "a/b", "caf\u00e9", "\u732b", " "):
        assert names[name] == name
    assert mlflow_names(reversed(ODD))["remote _tv_"] == "remote _tv_"
    assert names["remote (tv)"].startswith("remote _tv_ ")
    assert mlflow_names(["remote (tv)"]) == {"remote (tv)": "remote _tv_"}


def test_what_is_taken_stays() -> None:
    first = mlflow_names(["a(b"])
    both = mlflow_names(["a)b", "a(b"], first)
    assert both["a(b"] == "a_b"
    assert both["a)b"] != "a_b"
    assert mlflow_names(["a)b"], first)["a)b"] == both["a)b"]  # the same digest in each run


def test_flat_figures() -> None:
    values = {"a": 1, "b": {"c": 2.5, "d": "x", "e": {}}, "ok": True, "list": [1]}
    assert numbers(values) == {"a": 1.0, "b.c": 2.5}
    assert dict(flatten(values))["b.e"] == {}


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "VIRTEX_PARENT_RUN_ID"):
        monkeypatch.delenv(name, raising=False)


def test_every_class_reaches_mlflow(workspace, caplog) -> None:
    figures = {"top1": 50.0, "classes": {name: float(i) for i, name in enumerate(ODD)}}
    with stage_run("voc07", "virtex", {"baseline": {"sources": dict.fromkeys(ODD, "x")}}) as run:
        run.log(numbers(figures))
    stored = open_store().client.get_run(run.run_id).data
    names = {name for name in stored.metrics if name.startswith("classes.")}
    assert {stored.metrics[name] for name in names} == set(map(float, range(len(ODD))))
    assert stored.metrics["classes.remote _tv_"] == float(ODD.index("remote _tv_"))
    assert len(stored.params) == len(ODD)
    assert not [record for record in caplog.records if record.name.startswith("components")]


def test_a_refusal_is_of_one_and_named(workspace, capsys, monkeypatch) -> None:
    # As a server of another version might have it: it refuses what ours would send.
    monkeypatch.setattr("components.tracking.metrics.mlflow_names", lambda new, _: {n: n for n in new})
    monkeypatch.setattr("components.tracking.run.mlflow_names", lambda new: {n: n for n in new})
    with stage_run("voc07", "virtex", {"a": {"(b)": 1, "c": 2}}) as run:
        run.log({"fine": 1.0, "not (fine)": 2.0, "also": math.inf}, 3)
    stored = open_store().client.get_run(run.run_id).data
    assert stored.metrics["fine"] == 1.0
    assert "also" in stored.metrics
    assert stored.params == {"a.c": "2"}
    printed = capsys.readouterr().err
    assert "MLflow refused metrics `not (fine)`: " in printed
    assert "MLflow refused parameters `a.(b)`: " in printed
