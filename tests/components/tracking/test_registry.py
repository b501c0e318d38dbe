"""The registry, against a real SQLite store."""

import dataclasses

import pytest

from components.tracking.models import ModelCandidate, register_if_best
from components.tracking.store import open_store

pytestmark = pytest.mark.integration


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return open_store()


def candidate(store, score, name="virtex-backbone-x", logged=True):
    run_id = store.client.create_run(store.experiment_id).info.run_id
    if logged:
        store.client.create_logged_model(store.experiment_id, name="backbone", source_run_id=run_id)
    return ModelCandidate(
        name, "backbones", run_id, "backbone", score, "VOC07 mAP", "# Card", {"preset": "demo"}
    )


def best(store, name="virtex-backbone-x"):
    return store.client.get_model_version_by_alias(name, "best")


def test_a_better_model_becomes_the_best(store):
    first = candidate(store, 20.123456)
    assert register_if_best(store, first) == "version 1 of virtex-backbone-x, the best so far"
    assert best(store).run_id == first.run_id
    assert best(store).description == "VOC07 mAP 20.12.\n\n# Card"
    assert best(store).tags == {"preset": "demo", "score": "20.1235"}

    worse = register_if_best(store, candidate(store, 19.0))
    assert (
        worse == "not registered: VOC07 mAP 19.00 does not beat the 20.12 of version 1 of virtex-backbone-x"
    )
    assert "not registered" in register_if_best(store, candidate(store, 20.123456))  # as good, of another run
    assert best(store).version == 1

    better = candidate(store, 21.5)
    assert register_if_best(store, better).startswith("version 2")
    assert best(store).run_id == better.run_id
    assert "it beats version 1, which has 20.1235" in best(store).description


def test_the_same_model_is_registered_once(store):
    one = candidate(store, 20.0)
    register_if_best(store, one)
    assert register_if_best(store, dataclasses.replace(one, score=25.0)).startswith("version 1")
    assert len(store.client.search_model_versions("name = 'virtex-backbone-x'")) == 1


def test_other_data_is_another_model(store):
    register_if_best(store, candidate(store, 80.0))
    assert register_if_best(store, candidate(store, 5.0, "virtex-backbone-y")).startswith("version 1")


def test_without_a_logged_model_nothing_is_registered(store):
    assert "no model was logged" in register_if_best(store, candidate(store, 50.0, logged=False))
    assert store.client.search_registered_models() == []
