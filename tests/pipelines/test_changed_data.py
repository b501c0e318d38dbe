"""Data of one's own that change between two runs of the real stages, on each way in; in file order."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from workspaces import REPOSITORY, Workspace

from components.params import overlay
from pipelines.dvc_internals import read_plan
from pipelines.status.state import stage_states

TARGETS = ("lmdb@val", "tokenize")

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def brought_up_to_date(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """The project with a table of 30 uncompressed pictures beside it, brought up to date by ``dvc repro``."""
    base = tmp_path_factory.mktemp("changed")
    root = base / "project"
    hidden = shutil.ignore_patterns("__pycache__")
    for name in ("components", "pipelines", "presets"):
        shutil.copytree(REPOSITORY / name, root / name, ignore=hidden)
    for name in ("params.yaml", "dvc.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(REPOSITORY / name, root)
    (root / "datasets" / "archives").mkdir(parents=True)
    own = base / "own"
    own.mkdir()
    rows = ["image,caption,split"]
    for number in range(30):
        draw(own / f"{number}.bmp", number)
        split = "val" if number < 5 else "train"
        rows.append(f"{number}.bmp,a picture of number {number} and some other words,{split}")
    (own / "mine.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        overlay(None, ["download.source=folders", "download.folders.captions.mine=../own/mine.csv",
                       "caption.dataset=mine", "select.by=val_loss", "tokenize.vocab_size=60"])  # fmt: skip
        workspace = Workspace(root, "", PYTHONPATH=str(root))
        subprocess.run(["git", "init", "-q", "."], check=True)
        workspace.dvc("init", "-q")
        done = repro(workspace)
        assert "Running stage 'lmdb@val'" in done
        yield workspace


@pytest.fixture
def workspace(brought_up_to_date: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.chdir(brought_up_to_date.root)
    return brought_up_to_date


def draw(path: Path, value: int) -> None:
    """All of them have the same size in bytes."""
    Image.fromarray(np.full((20, 30, 3), value, np.uint8)).save(path)


def repro(workspace: Workspace) -> str:
    done = workspace.dvc("repro", *TARGETS)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ran(output: str) -> set[str]:
    return {line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")}


def stored_values() -> list[int]:
    """The colour of each image in the store of the validation split, in a process of its own."""
    code = (
        "import json; from pathlib import Path; from components.data.image import decode\n"
        "from components.data.store import CaptionStore\n"
        "store = CaptionStore(Path('data/lmdb/val.lmdb'))\n"
        "print(json.dumps([int(decode(record.image)[0, 0, 0]) for record in store]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_an_image_of_equal_size_a_caption_and_a_mere_touch(workspace: Workspace) -> None:
    own, runs = workspace.root.parent / "own", len(workspace.runs())
    assert sorted(stored_values()) == [0, 1, 2, 3, 4]
    assert ran(repro(workspace)) == {"sources"}
    assert read_plan(TARGETS).pending == ()
    assert len(workspace.runs()) == runs  # no record of a run that did nothing

    status = (own / "3.bmp").stat()
    draw(own / "3.bmp", 200)
    os.utime(own / "3.bmp", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert set(read_plan(TARGETS).pending) == {"sources", "datasets", *TARGETS}
    assert next(state.is_stale for state in stage_states(TARGETS) if state.stage.name == "sources")
    assert ran(repro(workspace)) == {"sources", "datasets", "lmdb@val"}
    assert sorted(stored_values()) == [0, 1, 2, 4, 200]
    assert read_plan(TARGETS).pending == ()

    table = own / "mine.csv"
    table.write_text(table.read_text(encoding="utf-8").replace("number 9 ", "number 8 "), encoding="utf-8")
    assert "tokenize" in ran(repro(workspace))

    (own / "4.bmp").touch()
    assert ran(repro(workspace)) == {"sources", "datasets"}
    assert read_plan(TARGETS).pending == ()


def test_virtex_run_and_status_notice_it_too(workspace: Workspace) -> None:
    draw(workspace.root.parent / "own" / "3.bmp", 150)
    status = workspace.start_module("pipelines.cli", "status", *TARGETS)
    assert "sources: data download.folders.captions.mine" in status.communicate(timeout=120)[0]
    returncode, output = workspace.run("--targets", *TARGETS)
    assert returncode == 0, output
    assert "To do: sources, datasets" in output
    assert sorted(stored_values()) == [0, 1, 2, 4, 150]
    assert "Nothing to do" in workspace.run("--targets", *TARGETS)[1]


@pytest.mark.slow
def test_an_added_image_changes_and_uploads_one_shard_only(workspace: Workspace) -> None:
    own, stores = workspace.root.parent / "own", ("lmdb@train", "lmdb_shard")

    def made() -> dict[str, bytes]:
        """Run, and send what was made to a remote; returns the training stores by name."""
        done = workspace.dvc("repro", *stores)
        assert done.returncode == 0, done.stdout + done.stderr
        assert workspace.dvc("push", *stores).returncode == 0
        return {path.name: path.read_bytes() for path in (workspace.root / "data/lmdb").glob("train*.lmdb")}

    def sent() -> set[bytes]:
        return {path.read_bytes() for path in (own.parent / "remote").rglob("*") if path.is_file()}

    assert workspace.dvc("remote", "add", "-d", "near", str(own.parent / "remote")).returncode == 0
    overlay(None, ["lmdb.shards=3"])
    before, there = made(), sent()
    assert sorted(before) == ["train-0.lmdb", "train-1.lmdb", "train-2.lmdb", "train.lmdb"]
    assert set(before.values()) < there
    draw(own / "new.bmp", 77)
    with (own / "mine.csv").open("a") as table:
        table.write("new.bmp,a picture that is new,train\n")
    after = made()
    changed = {name for name in before if after[name] != before[name]}
    assert len(changed) == 2
    assert "train.lmdb" in changed  # the head, which holds no image
    large = {data for data in sent() - there if data[16:20] == b"\xde\xc0\xef\xbe"}  # LMDB's magic number
    assert large == {after[name] for name in changed}
    assert read_plan(stores).pending == ()
    returncode, output = workspace.run("--targets", *stores)
    assert returncode == 0, output
    assert "Nothing to do" in output


@pytest.mark.slow
def test_shards_go_where_dvc_has_seen_the_number_before(workspace: Workspace) -> None:
    for count, shards in ((1, 0), (2, 2), (1, 0)):
        overlay(None, [f"lmdb.shards={count}"])
        done = workspace.dvc("repro", "lmdb@train", "lmdb_shard")
        assert done.returncode == 0, done.stdout + done.stderr
        assert len(list((workspace.root / "data/lmdb").glob("train-*.lmdb"))) == shards
