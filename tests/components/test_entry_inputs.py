"""Inputs of a stage against DVC's cache: what is damaged is not read, whatever started the stage."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from components.core.dvc_cache import object_path
from components.core.errors import InputError
from components.entry import require_sound_inputs

DVC_YAML = """
stages:
  lmdb:
    matrix: {split: [train, val]}
    cmd: sh make.sh ${item.split}
    deps: [make.sh]
    outs: ["data/lmdb/${item.split}.lmdb", "data/${item.split}"]
  use:
    matrix: {split: [train, val]}
    cmd: cp data/lmdb/${item.split}.lmdb used-${item.split}
    deps: [make.sh, "data/lmdb/${item.split}.lmdb", "data/${item.split}/sub"]
    outs: ["used-${item.split}"]
"""
SCRIPT = """
mkdir -p data/lmdb data/$1/sub; echo store of $1 > data/lmdb/$1.lmdb
echo member of $1 > data/$1/sub/a; echo other of $1 > data/$1/other; : > data/$1/sub/empty
"""


def dvc(*words: str) -> None:
    done = subprocess.run([sys.executable, "-m", "dvc", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("dvc.yaml").write_text(DVC_YAML)
    Path("make.sh").write_text(SCRIPT)
    return tmp_path


@pytest.fixture(params=[Path.hardlink_to, Path.symlink_to])
def linked(request: pytest.FixtureRequest, repository: Path) -> Path:
    """Outputs as DVC leaves them, but the empty one, which is no link."""
    for split in ("train", "val"):
        subprocess.run(["sh", "make.sh", split], check=True)
    for path in [path for path in Path("data").rglob("*") if path.is_file()]:
        kept = object_path(repository / ".dvc/cache", hashlib.md5(path.read_bytes()).hexdigest())
        kept.parent.mkdir(parents=True, exist_ok=True)
        path.rename(kept)
        kept.chmod(0o444)
        if kept.stat().st_size:
            request.param(path, kept)
        else:
            path.touch(0o444)
    require_sound_inputs("use", ["train"])
    return repository


def damage(path: str, content: str) -> None:
    Path(path).resolve().chmod(0o644)
    Path(path).write_text(content)
    Path(path).resolve().chmod(0o444)


@pytest.mark.parametrize("path", ["data/lmdb/train.lmdb", "data/train/sub/a"])
@pytest.mark.parametrize("how", [lambda _: "", str.swapcase, lambda text: text[: len(text) // 2]])
def test_what_is_damaged_is_named(linked: Path, path: str, how) -> None:
    damage(path, how(Path(path).read_text()))
    require_sound_inputs("use", ["val"])
    with pytest.raises(InputError, match=rf"{path}: damaged: .* moved to .*/damaged/.*\. Start again"):
        require_sound_inputs("use", ["train"])
    assert len(list((linked / ".dvc/cache/damaged").iterdir())) == 1


@pytest.mark.integration
def test_the_next_start_makes_it_again(repository: Path) -> None:
    dvc("init", "-q", "--no-scm")
    dvc("config", "cache.type", "hardlink")
    dvc("repro")
    require_sound_inputs("use", ["train"])
    for path in ("data/lmdb/train.lmdb", "data/train/sub/a"):
        damage(path, "")
    with pytest.raises(InputError, match=r"train.lmdb: damaged: .*sub/a: damaged: .*Start again"):
        require_sound_inputs("use", ["train"])
    dvc("repro")
    assert Path("data/lmdb/train.lmdb").read_text() == "store of train\n"
    assert Path("data/train/sub/a").read_text() == "member of train\n"
    require_sound_inputs("use", ["train"])


def test_files_of_ones_own_and_inputs_of_others_are_let_be(linked: Path, monkeypatch) -> None:
    damage("data/train/other", "damaged, and not read by the stage")
    require_sound_inputs("use", ["train"])
    damage("data/lmdb/train.lmdb", "larger than is read")
    monkeypatch.setenv("VIRTEX_CHECK_OUTPUTS", "none")
    require_sound_inputs("use", ["train"])
    monkeypatch.setenv("VIRTEX_CHECK_OUTPUTS", "some")
    with pytest.raises(InputError, match="expected all, small, none"):
        require_sound_inputs("use", ["train"])
    monkeypatch.delenv("VIRTEX_CHECK_OUTPUTS")
    Path("data/lmdb/train.lmdb").unlink()
    Path("data/lmdb/train.lmdb").write_text("written by hand")
    require_sound_inputs("use", ["train"])
