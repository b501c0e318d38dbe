"""Pretraining on shards ends with the captioner that one file gives."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from components import params
from components.core import paths
from components.data.build_shards import build_head, build_shard
from components.data.record import StoreForm
from components.data.store import CaptionStore
from components.params import overlay
from components.sources.readers.types import CaptionedImage
from tests.components.stages.pretraining import PROGRAM, digests, logged_rows, program_environment


def _deal_out(folder: Path, num_shards: int, here: Sequence[int]) -> None:
    """Put the training images of this folder in shards into ``folder``, some of them; and all else."""
    for path in (*paths.TOKENIZER_MODEL.parent.iterdir(), paths.lmdb_path("val"), Path("params.yaml")):
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    store = CaptionStore(paths.lmdb_path("train"))
    images = [
        CaptionedImage(record.image_id, record.dataset, Path(record.file), record.captions, record.labels)
        for record in store
    ]
    head, form = folder / paths.lmdb_path("train"), StoreForm(categories=store.metadata.categories)
    build_head(head, images, num_shards, form)
    for number in here:
        build_shard(head, images, number, num_shards, form, num_workers=1)


@pytest.mark.slow
def test_shards_train_as_one_file_also_when_killed(sections: list[params.Section], tmp_path: Path) -> None:
    environment = program_environment()
    subprocess.run([sys.executable, "-c", PROGRAM], env=environment, check=True)
    whole, rows = digests(), [logged_rows(name) for name in ("train.csv", "val.csv")]
    folder = tmp_path / "sharded"
    _deal_out(folder, 2, range(2))
    os.chdir(folder)  # which the fixture leaves
    assert subprocess.run([sys.executable, "-c", PROGRAM, "die"], env=environment).returncode < 0
    resumed = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, check=True, capture_output=True, text=True
    )
    assert "continuing after iteration 2," in resumed.stdout
    assert digests() == whole
    assert [[_without_times(row) for row in logged_rows(name)] for name in ("train.csv", "val.csv")] == [
        [_without_times(row) for row in table] for table in rows
    ]


def _without_times(row: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in row.items() if "loss" in name or name == "iteration"}


IN_FOLDERS = """
import os, sys
from pathlib import Path
os.chdir(sys.argv[1 + int(os.environ["RANK"]) % (len(sys.argv) - 1)])
import torch
from components.params import read_section
from components.stages import pretrain
from components.tracking.run import StageRun
from components.training.distributed import joined
torch.set_num_threads(1)
with joined():
    pretrain.main(
        StageRun("pretrain", None, Path("outputs/pretrain")), *map(read_section, pretrain.SECTIONS)
    )
"""


@pytest.mark.slow
def test_machines_with_their_own_shards_learn_what_one_with_all_learns(
    sections: list[params.Section], tmp_path: Path
) -> None:
    overlay(
        None, ["lmdb.shards=2", "pretrain.shard_groups=2", "pretrain.accumulate=2", "pretrain.batch_size=8"]
    )
    for name, here in (("all", (0, 1)), ("first", (0,)), ("second", (1,))):
        _deal_out(tmp_path / name, 2, here)
    (tmp_path / "program.py").write_text(IN_FOLDERS)
    environment = program_environment()

    def train(*folders: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        places = [str(tmp_path / folder) for folder in folders]
        done = subprocess.run(
            [*command, str(tmp_path / "program.py"), *places], env=environment, capture_output=True, text=True
        )
        return done.returncode, done.stderr

    def learnt(folder: str) -> tuple[dict[str, str], list[dict[str, str]]]:
        os.chdir(tmp_path / folder)
        return digests(), [
            _without_times(row) for name in ("train.csv", "val.csv") for row in logged_rows(name)
        ]

    for folders in (("all",), ("first", "second")):
        returncode, errors = train(*folders)
        assert returncode == 0, errors
    assert learnt("first") == learnt("all")
    assert not (tmp_path / "second" / "outputs" / "pretrain" / "checkpoints").exists()
    returncode, errors = train("second", "first")
    assert returncode != 0
    assert "train-0.lmdb: no such store" in errors
