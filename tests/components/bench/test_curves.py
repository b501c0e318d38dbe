import pytest

from components.bench import curves
from components.bench.curves import Line, Panel, StepCost, as_table, draw, step_cost


def test_quick_run_measures_every_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "PRECISIONS", ("fp32",))
    monkeypatch.setattr(curves, "step_cost", lambda size, precision: StepCost(1.0, size.batch))
    panels = list(curves.run(curves.QUICK))
    places = [
        "crop, pixels",
        "worker processes",
        "images",
        "shards",
        "shards",
        "shards",
        "captions",
        "captions",
    ]
    assert [panel.along for panel in panels][:8] == places
    assert len(panels) == 14
    for panel in panels:
        for line in panel.lines:
            assert len(line.at) == len(line.values) >= 1
            assert min(line.values) >= 0


def test_a_step_is_measured_in_a_process_of_its_own() -> None:
    cost = step_cost(curves.QUICK.train, "fp32")
    assert cost.images_per_second > 0
    assert cost.peak_bytes > 2**20


def test_a_row_has_all_points_and_a_picture_is_drawn(tmp_path) -> None:
    panel = Panel("loading", "crop", "images/s", (Line("small", (8, 16), (1234.5, 0.25)),))
    assert as_table([panel]).endswith("| loading, small | crop | images/s | 8: 1.23e+03; 16: 0.25 |")
    draw(tmp_path / "curves.png", [panel] * 4)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
