import pytest

from components.bench.svm import QUICK, Size, drawn_split, grid_of_linear_svcs, run
from components.benchmarks.voc07_svm import SvmProtocol


def test_both_sides_reach_the_same_map() -> None:
    (row,) = run(QUICK, rounds=1)
    assert float(row.figures["mAP of ours"]) == pytest.approx(
        float(row.figures["mAP of the baseline"]), abs=2.0
    )


def test_drawn_classes_can_be_learnt_but_not_perfectly() -> None:
    size = Size(trainval=300, test=300, features=32, classes=2)
    splits = [drawn_split(size, 300, seed) for seed in (0, 1)]
    assert 45.0 < grid_of_linear_svcs(*splits, SvmProtocol(costs=(1.0,))) < 99.0
