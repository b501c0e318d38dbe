"""Models kept on the way, of which the ``select`` stage takes the best."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from components.core.files import writing
from components.training.history import History


class CandidateFolder:
    """A folder of ``iteration_<count>.safetensors``: one a validation, the newest and the best of them.

    It lies beside the resume checkpoints until training has ended: outputs must be whole or absent.

    Args:
        folder: created at the first ``save``.
        keep: how many of the newest stay, besides the one with the lowest validation loss.
        write: writes the model as it is now to a path, atomically.
    """

    def __init__(self, folder: Path, keep: int, write: Callable[[Path], None]) -> None:
        self.folder = Path(folder)
        self._keep = keep
        self._write = write

    def paths(self) -> dict[int, Path]:
        """The files there are by number of iterations, oldest first."""
        found = {int(path.stem.split("_")[1]): path for path in self.folder.glob("iteration_*.safetensors")}
        return dict(sorted(found.items()))

    def save(self, history: History) -> None:
        """Keep the model of the latest validation; remove what is neither new nor the best any more."""
        iteration = int(history.val[-1]["iteration"])
        self._write(self.folder / f"iteration_{iteration:09d}.safetensors")
        paths = self.paths()
        for later in [number for number in paths if number > iteration]:  # of a run that died
            paths.pop(later).unlink()
        best = history.best_validation
        kept = {*list(paths)[-self._keep :], int(best["iteration"]) if best else iteration}
        for number in paths.keys() - kept:
            paths[number].unlink()

    def hand_over(self, destination: Path) -> None:
        """Copy the folder to ``destination``, as a whole; it stays here until the run's scratch goes."""
        with writing(destination) as temporary:
            shutil.copytree(self.folder, temporary, copy_function=_link_or_copy)


def _link_or_copy(source: str, destination: str) -> None:
    """A hard link where the file system has them: the files are large and nobody changes them."""
    try:
        os.link(source, destination)
    except OSError:
        shutil.copy2(source, destination)
