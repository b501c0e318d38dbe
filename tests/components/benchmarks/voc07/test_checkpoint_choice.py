import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components import params
from components.benchmarks.probes.result import ranked_classes
from components.benchmarks.shared.neighbours import votes
from components.benchmarks.voc07.checkpoint_choice import (
    Candidate,
    _neighbours_map,
    choose,
    criterion,
    draw,
    read_candidates,
    write_table,
)
from components.benchmarks.voc07.protocol import Extracted, Split
from components.core.errors import InputError

CANDIDATES = [
    Candidate(100, Path("a"), 3.0, test_map=40.0, trainval_map=39.0),
    Candidate(200, Path("b"), 2.0, test_map=42.0, trainval_map=38.0),
    Candidate(300, Path("c"), 2.5, test_map=42.0, trainval_map=37.0),
    Candidate(400, Path("d"), 2.6, test_map=41.0, trainval_map=36.0),
]


def select(by: str, split: str = "test") -> params.Select:
    return params.Select.model_validate({"by": by, "split": split})


@pytest.mark.parametrize(
    ("by", "split", "iteration"),
    [("voc07", "test", 300), ("voc07", "trainval", 100), ("val_loss", "test", 200), ("last", "test", 400)],
)
def test_chooses_the_best(by: str, split: str, iteration: int) -> None:
    assert choose(CANDIDATES, select(by, split)).iteration == iteration


def test_table_says_all_that_is_known(tmp_path: Path) -> None:
    write_table(tmp_path / "table.csv", CANDIDATES, select("voc07"))
    with open(tmp_path / "table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["chosen"] for row in rows] == ["no", "no", "yes", "no"]
    assert rows[0] == {
        "iteration": "100",
        "score": "40",
        "val_loss": "3",
        "test_mAP": "40.0000",
        "trainval_mAP": "39.0000",
        "chosen": "no",
    }
    write_table(tmp_path / "table.csv", [Candidate(7, Path("a"), 1.5)], select("val_loss"))
    last = (tmp_path / "table.csv").read_text().splitlines()[-1]
    assert last == "7,1.5,1.5,,,yes"


@pytest.mark.parametrize("by", ["voc07", "val_loss"])
def test_draws_what_was_measured(tmp_path: Path, by: str) -> None:
    measured = (
        CANDIDATES if by == "voc07" else [Candidate(c.iteration, c.path, c.val_loss) for c in CANDIDATES]
    )
    draw(tmp_path / "choice.png", measured, select(by))
    pixels = np.asarray(Image.open(tmp_path / "choice.png").convert("L"))
    assert pixels.shape[0] == round(120 * (5.8 if by == "voc07" else 3.4))
    assert (pixels < 128).mean() > 0.001


def test_criterion_is_said_for_people() -> None:
    assert criterion(select("voc07")) == "VOC07 mAP, test"
    assert criterion(select("voc07", "trainval")) == "VOC07 mAP, cross-validated on trainval"
    assert criterion(select("val_loss")) == "validation loss"


def test_reads_what_pretraining_kept(tmp_path: Path) -> None:
    (tmp_path / "val.csv").write_text("iteration,loss\n10,2.5\n20,2.25\n")
    with pytest.raises(InputError, match="no checkpoints to choose from"):
        read_candidates(tmp_path, tmp_path / "val.csv")
    for iteration in (20, 10):
        (tmp_path / f"iteration_{iteration:09d}.safetensors").touch()
    candidates = read_candidates(tmp_path, tmp_path / "val.csv")
    assert [(candidate.iteration, candidate.val_loss) for candidate in candidates] == [(10, 2.5), (20, 2.25)]
    (tmp_path / "iteration_000000030.safetensors").touch()
    with pytest.raises(InputError, match=r"iteration_000000030.*has no validation of it"):
        read_candidates(tmp_path, tmp_path / "val.csv")


def test_nearest_neighbours_have_the_figure_of_their_probe() -> None:
    rng = np.random.default_rng(0)
    trainval, test = (
        Split(rng.normal(size=(30, 4)).astype(np.float32), rng.integers(-1, 2, (30, 3)).astype(np.int8))
        for _ in range(2)
    )
    scores = votes(trainval.features, trainval.labels > 0, test.features, "cpu", (20,))[20]
    probed = ranked_classes([str(image) for image in range(30)], test.labels, {"knn": scores})
    assert _neighbours_map(Extracted(trainval, test, 1.0)) == pytest.approx(probed.by_image.figures["knn"])
