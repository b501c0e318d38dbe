"""Logged models: exported, with a free batch dimension, and loadable."""

import pytest
import torch
from torch import nn

from components.tracking import stage_run


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


def test_a_model_that_cannot_be_logged_is_a_warning(workspace, caplog):
    with stage_run("export", None, {}) as run:
        run.model("backbone", nn.Linear(3, 2), torch.randn(1, 3))
    assert any("batch of at least 2" in record.message for record in caplog.records)
