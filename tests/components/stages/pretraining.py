"""The pretrain stage as a program that may be killed, and what it leaves."""

import csv
import hashlib
import os
from pathlib import Path

from components.core import paths
from components.tracking.run import StageRun

REPOSITORY = Path(__file__).resolve().parents[3]
PROGRAM = """
import os, signal, sys, torch
from pathlib import Path
from components.params import read_section
from components.stages import pretrain
from components.tracking.run import StageRun
from components.training.checkpoints import CheckpointFolder
torch.set_num_threads(1)
save = CheckpointFolder.save
def save_and_die(*arguments):
    save(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[1:] == ["die"]:
    CheckpointFolder.save = save_and_die
run = StageRun("pretrain", None, Path("outputs/pretrain"))
pretrain.main(run, *(read_section(section) for section in pretrain.SECTIONS))
"""


def pretrain_run() -> StageRun:
    output_dir = paths.stage_dir("pretrain")
    output_dir.mkdir(parents=True, exist_ok=True)
    return StageRun("pretrain", None, output_dir)


def digests() -> dict[str, str]:
    files = sorted(paths.CANDIDATES_DIR.iterdir())
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def logged_rows(name: str) -> list[dict[str, str]]:
    with open(paths.stage_dir("pretrain") / name, newline="") as file:
        return list(csv.DictReader(file))


def program_environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
