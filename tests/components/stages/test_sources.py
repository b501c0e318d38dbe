import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from components.core import paths
from components.core.dvc_cache import object_path
from components.params import overlay

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(REPOSITORY / "params.yaml", tmp_path)
    Path("mine").mkdir()
    Path("mine/a.txt").write_text("A dog.")
    set_to("download.source=folders", "download.folders.captions.mine=mine", "caption.dataset=mine")


def set_to(*overrides: str) -> None:
    overlay(None, [*overrides, "select.by=val_loss"])


def run() -> tuple[int, str]:
    command = [sys.executable, "-m", "components.stages.sources"]
    environment = {"PYTHONPATH": str(REPOSITORY), "PATH": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_nothing_is_written_while_nothing_is_touched() -> None:
    assert run() == (0, "download.folders.captions.mine: new, or touched since it was last looked at\n")
    before = paths.DATA_SOURCES.stat()
    assert run() == (0, "")
    after = paths.DATA_SOURCES.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert not Path("mlflow.db").exists()
    Path("mine/a.txt").write_text("A cat.")
    assert run()[1].startswith("download.folders.captions.mine: new, or touched")
    assert paths.DATA_SOURCES.stat().st_mtime_ns > before.st_mtime_ns


def test_shards_of_another_number_go() -> None:
    paths.LMDB_DIR.mkdir(parents=True)
    for name in ("train", "train-0", "train-1", "train-2", "val"):
        (paths.LMDB_DIR / f"{name}.lmdb").touch()
    set_to("lmdb.shards=2")
    assert run()[0] == 0
    assert sorted(path.stem for path in paths.LMDB_DIR.iterdir()) == ["train", "train-0", "train-1", "val"]
    set_to("lmdb.shards=1")
    assert run()[0] == 0
    assert sorted(path.stem for path in paths.LMDB_DIR.iterdir()) == ["train", "val"]


def test_choosing_by_voc07_without_it_is_refused_before_any_work() -> None:
    text = paths.PARAMS.read_text(encoding="utf-8").replace("by: val_loss", "by: voc07")
    paths.PARAMS.write_text(text, encoding="utf-8")
    status, output = run()
    assert status == 2
    assert "select.by" in output
    assert "val_loss" in output
    assert not paths.DATA_SOURCES.exists()


def test_damaged_results_are_out_of_dvcs_sight_before_any_stage() -> None:
    kept = object_path(Path(".dvc/cache"), "0" * 32)
    kept.parent.mkdir(parents=True)
    kept.write_text("half of a rep")
    paths.REPORT_DIR.mkdir(parents=True)
    (paths.REPORT_DIR / "report.html").hardlink_to(kept)
    status, output = run()
    assert status == 0
    assert output.startswith("outputs/report/report.html: damaged in DVC's cache (13 bytes), moved to ")
    assert not kept.exists()


@pytest.mark.integration
@pytest.mark.parametrize("size", [1, 11_000_000])
def test_dvc_repro_makes_damaged_results_again(size: int) -> None:
    graph = YAML(typ="safe").load((REPOSITORY / "dvc.yaml").read_text())["stages"]
    leaf = {
        "cmd": f"mkdir -p outputs/report && head -c {size} params.yaml /dev/zero > outputs/report/page",
        "deps": ["data/sources.json"],
        "outs": ["outputs/report/page"],
    }
    stages = {"sources": {**graph["sources"], "deps": ["mine"]}, "leaf": leaf}
    YAML(typ="safe").dump({"stages": stages}, Path("dvc.yaml"))
    place = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {"PYTHONPATH": str(REPOSITORY), "PATH": place, "HOME": os.environ.get("HOME", "/")}
    for words in (["init", "-q", "--no-scm"], ["config", "cache.type", "hardlink"], ["repro"]):
        subprocess.run([sys.executable, "-m", "dvc", *words], env=environment, check=True)
    page = Path("outputs/report/page")
    right = page.read_bytes()
    page.chmod(0o644)
    os.truncate(page, size // 2)
    page.chmod(0o444)
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro"], env=environment, capture_output=True, text=True
    )
    assert "outputs/report/page: damaged in DVC's cache" in done.stdout, done.stdout + done.stderr
    assert page.read_bytes() == right
