"""The loop on a GPU, in every precision; `pytest -m gpu`."""

import pytest

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize(
    ("settings", "tolerance"),
    [
        ({"precision": "fp32"}, 1e-3),
        ({"precision": "fp32", "compile": True}, 1e-3),
        ({"precision": "fp32", "accumulate": 3}, 1e-3),
        ({"precision": "bf16"}, 0.05),
        ({"precision": "fp16"}, 0.05),
        ({"precision": "fp16", "compile": True}, 0.05),
    ],
)
def test_learns_as_a_cpu_does(trainer, tmp_path, settings, tolerance: float) -> None:
    usual = trainer.with_(is_random=False, num_iterations=20)  # dropout draws other numbers there
    expected = usual.with_(folder=tmp_path / "cpu").run().history.val[-1]
    found = usual.with_(folder=tmp_path / "gpu", device="cuda", pretrain=settings).run().history.val[-1]
    assert found["loss"] == pytest.approx(expected["loss"], rel=tolerance)
