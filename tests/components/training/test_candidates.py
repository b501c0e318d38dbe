from pathlib import Path

import pytest

from components.training.candidates import CandidateFolder
from components.training.history import History


def _kept(folder: Path, losses: dict[int, float], keep: int) -> list[int]:
    history = History()
    candidates = CandidateFolder(folder, keep, _write)
    for iteration, loss in losses.items():
        history.val.append({"iteration": iteration, "loss": loss})
        candidates.save(history)
    return list(candidates.paths())


def _write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(path.stem)


@pytest.mark.parametrize(
    ("losses", "keep", "kept"),
    [
        ([4.0, 3.0, 2.0, 1.0], 2, [3, 4]),
        ([1.0, 2.0, 3.0, 4.0], 2, [1, 3, 4]),
        ([3.0, -1.0, 0.0, 2.0], 1, [2, 4]),
        ([5.0, 0.0, 0.0, 2.0], 1, [2, 4]),
        ([0.0, -2.0, -3.0, 1.0], 1, [3, 4]),
    ],
)
def test_keeps_the_newest_and_the_best(
    tmp_path: Path, losses: list[float], keep: int, kept: list[int]
) -> None:
    assert _kept(tmp_path / "candidates", dict(enumerate(losses, start=1)), keep) == kept


def test_those_of_a_run_that_died_later_on_make_no_room_for_themselves(tmp_path: Path) -> None:
    folder = tmp_path / "candidates"
    _write(folder / "iteration_000000009.safetensors")
    assert _kept(folder, {3: 1.0, 6: 2.0}, keep=1) == [3, 6]


def test_hands_over_whole_copies(tmp_path: Path) -> None:
    folder = tmp_path / "candidates"
    _kept(folder, {3: 2.0, 6: 1.0}, keep=2)
    former = tmp_path / "outputs"
    _write(former / "iteration_000000001.safetensors")
    CandidateFolder(folder, 2, _write).hand_over(former)
    assert sorted(path.name for path in former.iterdir()) == sorted(path.name for path in folder.iterdir())
    assert (former / "iteration_000000006.safetensors").read_text() == "iteration_000000006"
