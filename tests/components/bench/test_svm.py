import numpy as np
import pytest

from components.bench.svm import PAPER, QUICK, Size, drawn_split, grid_of_linear_svcs, run
from components.benchmarks.voc07.protocol import Split


def test_both_sides_reach_the_same_map() -> None:
    (row,) = run(QUICK, rounds=1)
    assert float(row.figures["mAP of ours"]) == pytest.approx(
        float(row.figures["mAP of the baseline"]), abs=2.0
    )


def test_drawn_classes_can_be_learnt_but_not_perfectly() -> None:
    size = Size(trainval=300, test=300, features=64, classes=2)
    trainval, test = (drawn_split(size, 300, seed) for seed in (0, 1))
    protocol = PAPER.model_copy(update={"costs": [1.0]})
    shuffled = Split(trainval.features, np.random.default_rng(2).permutation(trainval.labels))
    learnt, unlearnt = (grid_of_linear_svcs(split, test, protocol) for split in (trainval, shuffled))
    assert unlearnt + 5.0 < learnt < 99.0
