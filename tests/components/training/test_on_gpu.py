"""The loop on a GPU, in every precision; `pytest -m gpu`."""

import pytest
import torch

pytestmark = pytest.mark.gpu


def backbone_change(trainer, state) -> torch.Tensor:
    """What training did to the convolution."""
    before, after = (
        objective.visual.conv.weight.detach().cpu() for objective in (trainer.objective(), state.objective)
    )
    return (after - before).flatten()


@pytest.mark.parametrize(
    ("settings", "tolerance"),
    [
        ({"precision": "fp32"}, 1e-3),
        ({"precision": "fp32", "compile": True}, 1e-3),
        ({"precision": "fp32", "accumulate": 3}, 1e-3),
        ({"precision": "bf16"}, 5e-3),
        ({"precision": "fp16"}, 5e-3),
        ({"precision": "fp16", "compile": True}, 5e-3),
    ],
)
def test_learns_as_a_cpu_does(trainer, tmp_path, settings, tolerance: float) -> None:
    usual = trainer.with_(is_random=False, num_iterations=20)  # dropout draws other numbers there
    expected = usual.with_(folder=tmp_path / "cpu").run()
    found = usual.with_(folder=tmp_path / "gpu", device="cuda", pretrain=settings).run()
    assert found.history.val[-1]["loss"] == pytest.approx(expected.history.val[-1]["loss"], rel=tolerance)
    changes = backbone_change(usual, found), backbone_change(usual, expected)
    assert torch.cosine_similarity(*changes, dim=0) > 0.99
    assert changes[0].norm() == pytest.approx(changes[1].norm().item(), rel=0.1)
