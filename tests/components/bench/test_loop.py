import pytest

from components.bench.loop import QUICK, run


def test_quick_run_goes_from_a_store_to_weights(monkeypatch) -> None:
    monkeypatch.setenv("VIRTEX_DEVICE", "cpu")
    [row] = run(QUICK, rounds=2)
    assert row.units == QUICK.step.batch * QUICK.iterations
    assert len(row.baseline.wall) == len(row.ours.wall) == 2
    assert row.name.endswith("bf16")
    assert row.figures["GPU idle"] == "no GPU"
    assert "images/s" in row.figures["the loader alone"]


@pytest.mark.gpu
def test_on_a_gpu_somebody_looks_whether_it_is_idle() -> None:
    [row] = run(QUICK, rounds=1)
    assert row.figures["GPU idle"].endswith("%")
