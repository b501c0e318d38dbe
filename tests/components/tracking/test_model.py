"""Logged models: exported, with a free batch dimension, and loadable."""

import socket

import pytest
import torch
from torch import nn

from components import params
from components.objectives.build import ModelConfig, build_objective
from components.pretraining.results import Logits, logits_inputs
from components.tracking import stage_run
from components.tracking.provenance import HOST_TAG, PROCESS_TAG
from components.tracking.store import open_store


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.embedding = nn.Embedding(5, 2)

    def forward(self, image, caption_tokens):
        return self.linear(image) + self.embedding(caption_tokens).sum(1)


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def models_of(run):
    import mlflow

    return mlflow.search_logged_models(
        experiment_ids=[mlflow.get_run(run.run_id).info.experiment_id],
        filter_string=f"source_run_id = '{run.run_id}'",
        output_format="list",
    )


@pytest.mark.integration
def test_model_is_logged_and_loads_at_another_batch(workspace, caplog):
    import mlflow

    module, inputs = TwoInputs(), (torch.randn(2, 3), torch.ones(2, 4, dtype=torch.int64))
    with stage_run("export", None, {}) as run:
        run.model("one", module.linear, inputs[0])
        run.model("two", module, inputs)
    assert not [record for record in caplog.records if record.name.startswith("components")]
    logged = {model.name: model for model in models_of(run)}
    assert set(logged) == {"one", "two"}
    loaded = mlflow.pytorch.load_model(logged["two"].model_uri)
    larger = torch.randn(5, 3), torch.zeros(5, 4, dtype=torch.int64)
    torch.testing.assert_close(loaded(*larger), module(*larger))
    assert mlflow.models.get_model_info(logged["one"].model_uri).signature.inputs.inputs[0].shape == (-1, 3)


OBJECTIVES = (
    "bicaptioning",
    "captioning",
    "masked_lm",
    "token_classification",
    "multilabel_classification",
    "contrastive",
)


def tiny(objective):
    return build_objective(
        ModelConfig(
            backbone=params.Backbone(name="resnet18", zero_init_residual=False),
            textual_head=params.TextualHead(
                hidden_size=64,
                num_layers=1,
                attention_heads=None,
                feedforward_size=None,
                norm="post",
                dropout=0.1,
                max_caption_length=12,
            ),
            objective=params.Objective(name=objective),
            vocab_size=40,
        )
    )


@pytest.mark.integration
@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_pretrained_model_of_every_task_is_ready(workspace, name, caplog, recwarn):
    import mlflow

    objective = tiny(name).eval().to(memory_format=torch.channels_last)  # as pretraining has it
    batch = {
        "image": torch.randn(3, 3, 64, 64),
        "caption_tokens": torch.randint(4, 40, (3, 9)),
        "caption_lengths": torch.tensor([9, 7, 4]),
    }
    inputs = logits_inputs(objective, batch)
    with stage_run("pretrain", None, {}) as run:
        run.model("captioner", Logits(objective), [tensor[:2] for tensor in inputs])
    assert [(model.name, model.status) for model in models_of(run)] == [("captioner", "READY")]
    assert not [record for record in caplog.records if record.name.startswith("components")]
    assert not [warned for warned in recwarn if "complete tensor" in str(warned.message)]
    loaded = mlflow.pytorch.load_model(models_of(run)[0].model_uri)
    with torch.no_grad():
        torch.testing.assert_close(loaded(*inputs), Logits(objective)(*inputs), rtol=1e-4, atol=1e-4)


class Untraceable(nn.Module):
    def forward(self, image):
        return image * float(image.sum().numpy())  # NumPy knows no traced tensor


def test_a_model_that_cannot_be_logged_is_a_warning_and_leaves_none_behind(workspace, capsys):
    import mlflow

    with stage_run("export", None, {}) as run:
        run.tag("x" * 300, 1)  # refused; one warning is not the last
        run.model("backbone", nn.Linear(3, 2), torch.randn(1, 3))
        run.model("captioner", Untraceable(), torch.randn(2, 3))
        run.model("good", nn.Linear(3, 2), torch.randn(2, 3))
    assert [(model.name, model.status) for model in models_of(run)] == [("good", "READY")]
    printed = capsys.readouterr().err
    assert "MLflow has no model backbone of this run: it cannot be logged (ValueError: " in printed
    assert "batch of at least 2" in printed
    assert "MLflow has no model captioner of this run: it cannot be logged (" in printed
    tags = mlflow.get_run(run.run_id).data.tags
    assert tags["model captioner"].startswith("not logged: ")
    assert "model good" not in tags


def test_a_model_that_a_killed_process_began_goes_with_its_run(workspace):
    store = open_store()
    killed = store.client.create_run(
        store.experiment_id,
        tags={"dvc.stage": "export", HOST_TAG: socket.gethostname(), PROCESS_TAG: "0 0"},
    ).info.run_id
    store.client.create_logged_model(store.experiment_id, "backbone", source_run_id=killed)
    with stage_run("export", None, {}):
        pass
    assert store.client.get_run(killed).info.status == "KILLED"
    assert not store.client.search_logged_models([store.experiment_id])
