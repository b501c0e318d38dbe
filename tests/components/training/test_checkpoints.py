import errno
import resource
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from components.core.errors import InputError
from components.training.checkpoints import (
    CandidateFolder,
    CheckpointFolder,
    Measure,
    configuration_key,
)
from components.training.state import History


@pytest.fixture
def folder(tmp_path: Path) -> CheckpointFolder:
    return CheckpointFolder(tmp_path / "pretrain", "key", keep=2)


def _state(iteration: int) -> dict[str, Any]:
    return {
        "weights": torch.arange(1000.0) + iteration,
        "nested": {"rows": [{"loss": 0.5, "iteration": iteration}], "none": None, "name": "x"},
    }


def test_gives_back_what_was_saved_and_keeps_the_newest(folder: CheckpointFolder) -> None:
    assert folder.latest() is None
    for iteration in (9, 10, 100):
        folder.save(iteration, _state(iteration))
    checkpoint = folder.latest()
    assert checkpoint is not None
    assert checkpoint.iteration == 100
    assert torch.equal(checkpoint.state["weights"], torch.arange(1000.0) + 100)
    assert checkpoint.state["nested"] == _state(100)["nested"]
    names = [path.name for path in folder.folder.iterdir()]
    assert sorted(names) == ["iteration_000000010.pt", "iteration_000000100.pt"]


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-500])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _flip_a_bit_of_the_weights(path: Path) -> None:
    data = bytearray(path.read_bytes())
    position = data.find(torch.arange(1000.0).add(20).numpy().tobytes()[:64])
    assert position > 0
    data[position + 2000] ^= 1
    path.write_bytes(data)


def _replace_by_another_archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello", "world")


def _replace_by_a_foreign_file(path: Path) -> None:
    torch.save({"state": {}}, path)


@pytest.mark.parametrize(
    "damage",
    [
        _truncate,
        _empty,
        _flip_a_bit_of_the_weights,
        _replace_by_another_archive,
        _replace_by_a_foreign_file,
    ],
)
def test_a_damaged_file_is_passed_over(folder: CheckpointFolder, caplog, damage) -> None:
    folder.save(10, _state(10))
    newest = folder.save(20, _state(20))
    damage(newest)
    checkpoint = folder.latest()
    assert checkpoint is not None
    assert checkpoint.iteration == 10
    assert newest.name in caplog.text
    assert "damaged" in caplog.text


def test_without_a_sound_file_training_starts_anew(folder: CheckpointFolder, caplog) -> None:
    _truncate(folder.save(10, _state(10)))
    assert folder.latest() is None
    assert "damaged" in caplog.text


def test_code_in_a_file_is_not_run(folder: CheckpointFolder, tmp_path: Path) -> None:
    class Touch:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    path = folder.save(10, _state(10))
    torch.save({"format": "virtex-resume", "version": 1, "state": Touch()}, path)
    assert folder.latest() is None
    assert not (tmp_path / "ran").exists()


def test_another_configuration_is_refused(folder: CheckpointFolder) -> None:
    folder.save(10, _state(10))
    other = CheckpointFolder(folder.folder, "other", keep=2)
    with pytest.raises(InputError, match="another configuration"):
        other.latest()


@pytest.mark.parametrize("num_numbers", [1000, 1_000_000], ids=["at_the_end", "midway"])
def test_a_full_disk_leaves_the_earlier_files(folder: CheckpointFolder, num_numbers: int) -> None:
    folder.save(10, _state(10))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as raised:
            folder.save(20, {"weights": torch.zeros(num_numbers)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert raised.value.errno == errno.EFBIG
    assert "iteration_000000020.pt" in str(raised.value)
    assert [path.name for path in folder.folder.iterdir()] == ["iteration_000000010.pt"]


def test_what_a_killed_writer_left_behind_is_removed(folder: CheckpointFolder) -> None:
    newest = folder.save(10, _state(10))
    left_behind = folder.folder / ".iteration_000000020.pt.12345.partial"
    left_behind.write_bytes(b"half")
    checkpoint = folder.latest()
    assert checkpoint is not None
    assert checkpoint.path == newest
    assert not left_behind.exists()


def test_remove(folder: CheckpointFolder) -> None:
    folder.save(10, _state(10))
    folder.remove()
    assert not folder.folder.exists()
    folder.remove()


def test_the_key_follows_values_and_inputs_but_not_their_order() -> None:
    sections = {"optimizer": {"backbone_lr": 0.2, "head_lr": 0.1}, "pretrain": {"seed": 0}}
    key = configuration_key(sections, {"tokenizer": "ab"})
    reordered = {"pretrain": {"seed": 0}, "optimizer": {"head_lr": 0.1, "backbone_lr": 0.2}}
    assert configuration_key(reordered, {"tokenizer": "ab"}) == key
    assert configuration_key(sections | {"pretrain": {"seed": 1}}, {"tokenizer": "ab"}) != key
    assert configuration_key(sections, {"tokenizer": "cd"}) != key


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


def test_keeps_the_best_by_each_figure_of_a_measure(tmp_path: Path) -> None:
    scores = {1: (9.0, 1.0), 2: (3.0, 8.0), 3: (9.0, 8.0), 4: (1.0, 2.0), 5: (2.0, 7.0), 6: (0.0, 0.0)}
    measure = Measure("key", lambda path: dict(zip("ab", scores[int(path.stem[-9:])], strict=True)))
    history, candidates = History(), CandidateFolder(tmp_path / "candidates", 1, _write, measure)
    seen = []
    for iteration in scores:
        history.val.append({"iteration": iteration, "loss": -float(iteration == 2)})
        candidates.save(history)
        seen.append(list(candidates.paths()))
    # The newest, the lowest loss, the best by each figure; of equal ones the one trained longest.
    assert seen == [[1], [1, 2], [2, 3], [2, 3, 4], [2, 3, 5], [2, 3, 6]]
    assert [(row["a"], row["b"]) for row in history.val] == list(scores.values())


def test_those_of_a_run_that_died_later_on_make_no_room_for_themselves(tmp_path: Path) -> None:
    folder = tmp_path / "candidates"
    _write(folder / "iteration_000000009.safetensors")
    assert _kept(folder, {3: 1.0, 6: 2.0}, keep=1) == [3, 6]


def test_hands_over_whole_copies(tmp_path: Path) -> None:
    folder = tmp_path / "candidates"
    _kept(folder, {3: 2.0, 6: 1.0}, keep=2)
    former = tmp_path / "outputs"
    _write(former / "iteration_000000001.safetensors")
    CandidateFolder(folder, 2, _write).publish(former)
    assert sorted(path.name for path in former.iterdir()) == sorted(path.name for path in folder.iterdir())
    assert (former / "iteration_000000006.safetensors").read_text() == "iteration_000000006"
