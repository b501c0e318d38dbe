"""The registry, against a real SQLite store."""

import dataclasses

import pytest
import torch
from torch import nn

from components.core import paths
from components.core.tensor_files import save_stable
from components.params import PRETRAINED
from components.tracking import UsedDataset, stage_run
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


def test_the_best_backbone_is_found_by_what_benchmarks_measured_of_its_file(store, caplog):
    """Two runs' weights, and a baseline's without a copy; the stage that measures knows the file alone."""
    import mlflow

    scores = {"first": 20.5, "second": 60.25, "random": 19.0}
    path = paths.backbone_path(PRETRAINED)
    path.parent.mkdir(parents=True)
    data = UsedDataset("voc2007 test", "a" * 64, "test", "VOC2007")
    training = UsedDataset("voc2007 trainval", "b" * 64, "training", "VOC2007")
    for number, (name, score) in enumerate(scores.items()):
        save_stable({"weight": torch.full((2, 3), float(number))}, {}, path)
        with stage_run("select", None, {}) as run:
            if name == "random":
                run.model_elsewhere("random", path)
            else:
                run.model("backbone", nn.Linear(3, 2), torch.randn(2, 3), path)
        with stage_run("voc07", PRETRAINED, {}, about="Stage `voc07`.") as run:
            run.uses(data, training)
            run.metrics({"mAP": score, "num_test": 5})
    assert not [record for record in caplog.records if record.name.startswith("components")]
    found = mlflow.search_logged_models(
        [store.experiment_id],
        order_by=[{"field_name": "metrics.voc07.mAP", "ascending": False}],
        output_format="list",
    )
    shown = [
        (
            model.name,
            *[
                (m.key, m.value, m.dataset_name, m.dataset_digest)
                for m in model.metrics
                if m.key.startswith("voc07")
            ],
        )
        for model in found
    ]
    assert shown == [
        (name, ("voc07.mAP", score, "voc2007 test", "a" * 16))
        for name, score in (("backbone", 60.25), ("backbone", 20.5), ("random", 19.0))
    ]
    assert found[2].tags["file"] == path.as_posix()
    measured = store.client.get_run(run.run_id)
    assert measured.data.metrics["voc07.mAP"] == measured.data.metrics["mAP"] == 19.0
    assert measured.data.tags["mlflow.note.content"] == "voc07.mAP 19.00\n\nStage `voc07`."


def test_figures_of_weights_that_no_model_has_are_the_runs_alone(store, caplog):
    path = paths.backbone_path("foreign")
    path.parent.mkdir(parents=True)
    save_stable({"weight": torch.zeros(2)}, {}, path)
    with stage_run("classification", "imagenet_linear-foreign", {}) as run:
        run.metrics({"top1": 12.5, "top5": 40.0})
    assert not [record for record in caplog.records if record.name.startswith("components")]
    figures = store.client.get_run(run.run_id).data.metrics
    assert figures.items() >= {"imagenet_linear.top1": 12.5, "top1": 12.5, "top5": 40.0}.items()
    assert "imagenet_linear.top5" not in figures  # no headline


def test_figures_of_another_version_of_a_protocol_stand_in_a_column_of_their_own(store, caplog):
    path = paths.backbone_path(PRETRAINED)
    path.parent.mkdir(parents=True)
    save_stable({"weight": torch.zeros(2)}, {}, path)
    found = {}
    for version in (1, 2):
        with stage_run("voc07", PRETRAINED, {}) as run:
            run.metrics({"mAP": 12.5, "protocol": {"name": "SVMs", "version": version, "settings": {}}})
        data = store.client.get_run(run.run_id).data
        found[version] = data.tags["protocol"], [key for key in data.metrics if key.startswith("voc07")]
    assert not [record for record in caplog.records if record.name.startswith("components")]
    assert found == {1: ("SVMs, version 1", ["voc07.mAP"]), 2: ("SVMs, version 2", ["voc07.mAP v2"])}


def test_candidates_without_a_copy_say_where_their_weights_are_and_what_they_reached(store, caplog):
    import mlflow

    with stage_run("select", None, {}) as run:
        for step, score in ((10, 20.5), (20, 60.25)):
            path = paths.CANDIDATES_DIR / f"iteration_{step}.safetensors"
            path.parent.mkdir(parents=True, exist_ok=True)
            save_stable({"weight": torch.full((2, 3), float(step))}, {}, path)
            run.model_elsewhere(path.stem, path, {"mAP": score, "val_loss": 1 / step}, step)
        run.metrics({"mAP": 20.5})  # the first one was chosen
    assert not [record for record in caplog.records if record.name.startswith("components")]
    found = mlflow.search_logged_models(
        [store.experiment_id],
        order_by=[{"field_name": "metrics.candidate.mAP", "ascending": False}],
        output_format="list",
    )
    assert [
        (
            model.name,
            model.source_run_id,
            model.tags["file"],
            {m.key: (m.step, m.value) for m in model.metrics},
        )
        for model in found
    ] == [
        (
            f"iteration_{step}",
            run.run_id,
            f"outputs/pretrain/checkpoints/iteration_{step}.safetensors",
            {"candidate.mAP": (step, score), "candidate.val_loss": (step, 1 / step)},
        )
        for step, score in ((20, 60.25), (10, 20.5))
    ]
    assert len({model.tags["virtex.weights"] for model in found}) == 2
    assert store.client.get_run(run.run_id).data.metrics["mAP"] == 20.5
    assert not list(store.client.list_artifacts(run.run_id, "models"))
