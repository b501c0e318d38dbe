"""Files of a run in progress: checkpoints to resume from, and the models of which ``select`` takes one."""

import hashlib
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from components.core.errors import InputError, first_line
from components.core.files import link_or_copy, writing
from components.core.logs import own_logger
from components.training.state import History

FORMAT = "virtex-resume"
VERSION = 2

_logger = own_logger(__name__)


def configuration_key(sections: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """Return the hash of all that a training run depends on; names its checkpoint folder.

    Args:
        sections: plain JSON values of the stage's sections, by name.
        inputs: a digest of each input, by name.

    Returns:
        32 hexadecimal digits.
    """
    canonical = json.dumps({"sections": sections, "inputs": inputs}, sort_keys=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint as read: after how many iterations it was made, and the state given to ``save``."""

    path: Path
    iteration: int
    state: dict[str, Any]


class CheckpointFolder:
    """A folder of ``iteration_<count>.pt`` files.

    Args:
        folder: created at the first ``save``.
        key: of the configuration, from ``configuration_key``; kept in every file.
        keep: how many of the newest files stay, at least 1.
    """

    def __init__(self, folder: Path, key: str, keep: int) -> None:
        self.folder = Path(folder)
        self._key = key
        self._keep = keep

    def paths(self) -> list[Path]:
        """Return the files there are, oldest first."""
        return sorted(self.folder.glob("iteration_*.pt"), key=lambda path: int(path.stem.split("_")[1]))

    def save(self, iteration: int, state: Mapping[str, Any]) -> Path:
        """Write a checkpoint made after ``iteration`` iterations, then remove the oldest surplus ones.

        Args:
            iteration: iterations done.
            state: tensors, numbers, strings and None in dicts and lists.

        Raises:
            OSError: naming the file, if it cannot be written, say to a full disk; earlier files stay.
        """
        path = self._path(iteration)
        content = {
            "format": FORMAT,
            "version": VERSION,
            "key": self._key,
            "iteration": iteration,
            "state": dict(state),
        }
        with writing(path) as temporary:
            _write(temporary, content, path)
        for surplus in self.paths()[: -self._keep]:
            surplus.unlink()
        return path

    def latest(self) -> Checkpoint | None:
        """Return the newest checkpoint that can be read, on the CPU; None if there is none.

        A damaged file is passed over with a warning. What a killed writer left behind is removed.

        Raises:
            InputError: if the checkpoint belongs to another configuration.
        """
        for left_behind in self.folder.glob(".iteration_*.partial"):
            left_behind.unlink()
        for path in reversed(self.paths()):
            try:
                content = _read(path)
            except (ValueError, OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
                reason = first_line(error) or type(error).__name__
                _logger.warning("%s is damaged and was skipped: %s", path, reason)
                continue
            if content["key"] != self._key:
                raise InputError(
                    f"{path}: made with another configuration or other data (its key is {content['key']}, "
                    f"expected {self._key}); remove the folder {self.folder} to train from the beginning"
                )
            return Checkpoint(path, content["iteration"], content["state"])
        return None

    def at(self, iteration: int) -> Checkpoint:
        """Return the checkpoint made after ``iteration`` iterations, which another process found sound.

        Raises:
            InputError: if it cannot be read here.
        """
        path = self._path(iteration)
        try:
            content = _read(path)
        except (ValueError, OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise InputError(
                f"{path}: the first process can read it, this one cannot ({error}); all machines of a run "
                "need the same folder, say on a network file system"
            ) from error
        return Checkpoint(path, content["iteration"], content["state"])

    def remove(self) -> None:
        """Delete the folder, once training has ended well and its outputs are written."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, iteration: int) -> Path:
        return self.folder / f"iteration_{iteration:09d}.pt"


def _write(temporary: Path, content: dict[str, Any], path: Path) -> None:
    try:
        with open(temporary, "wb") as file:
            torch.save(content, file)
    except (OSError, RuntimeError) as error:  # torch hides a failed write behind a RuntimeError of its own
        cause = error.__context__ if isinstance(error, RuntimeError) else error
        if not isinstance(cause, OSError):
            raise
        raise OSError(cause.errno, cause.strerror, str(path)) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:  # torch itself does not verify the checksums
            damaged = archive.testzip()
    except zipfile.BadZipFile as error:
        raise ValueError(str(error)) from error
    if damaged is not None:
        raise ValueError(f"wrong checksum of its part {damaged}")
    content = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, dict) or content.get("format") != FORMAT or content.get("version") != VERSION:
        raise ValueError(f"not a {FORMAT} file of version {VERSION}")
    missing = {"key", "iteration", "state"} - content.keys()
    if missing:
        raise ValueError(f"without {', '.join(sorted(missing))}")
    return content


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure of a model's file.

    Attributes:
        key: digest of all that its figures depend on besides the model; of the configuration.
        figures: returns the file's figures by name, of which more is better.
    """

    key: str
    figures: Callable[[Path], dict[str, float]]


class CandidateFolder:
    """A folder of ``iteration_<count>.safetensors``: one per validation, the newest and the best of them.

    It lies beside the resume checkpoints until training has ended: outputs must be whole or absent.

    Args:
        folder: created at the first ``save``.
        keep: how many of the newest stay, besides the one with the lowest validation loss.
        write: writes the model as it is now to a path, atomically.
        measure: gives each file figures, which become part of its validation; the best of all by each of
            them stays too.
    """

    def __init__(
        self, folder: Path, keep: int, write: Callable[[Path], None], measure: Measure | None = None
    ) -> None:
        self.folder = Path(folder)
        self._keep = keep
        self._write = write
        self._measure = measure

    def paths(self) -> dict[int, Path]:
        """Return the files there are by number of iterations, oldest first."""
        found = {int(path.stem.split("_")[1]): path for path in self.folder.glob("iteration_*.safetensors")}
        return dict(sorted(found.items()))

    def save(self, history: History) -> None:
        """Keep the model of the latest validation; remove what is neither new nor the best any more."""
        iteration = int(history.val[-1]["iteration"])
        path = self.folder / f"iteration_{iteration:09d}.safetensors"
        self._write(path)
        figures = self._measure.figures(path) if self._measure else {}
        history.val[-1] |= figures
        paths = self.paths()
        for later in [number for number in paths if number > iteration]:  # of a run that crashed
            paths.pop(later).unlink()
        best = history.best_validation
        kept = {*list(paths)[-self._keep :], int(best["iteration"]) if best else iteration}
        there = [row for row in history.val if row["iteration"] in paths]
        kept |= {
            int(max(there, key=lambda row: (row[name], row["iteration"]))["iteration"]) for name in figures
        }
        for number in paths.keys() - kept:
            paths[number].unlink()

    def publish(self, destination: Path) -> None:
        """Copy the folder to ``destination``, as a whole; it stays here until the run's scratch goes."""
        with writing(destination) as temporary:
            shutil.copytree(self.folder, temporary, copy_function=link_or_copy)
