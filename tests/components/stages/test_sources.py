import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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
