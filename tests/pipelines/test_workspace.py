"""The run lock, and processes of a crashed run."""

import os
import subprocess
import sys
import threading

import pytest

from components.core.errors import InputError
from pipelines.workspace import STAGE_VARIABLE, STATE_DIR, note_group, run_lock, stop_orphans

HOLD = """
import sys, pathlib
from pipelines.workspace import run_lock
with run_lock(pathlib.Path(sys.argv[1])):
"""


def hold(folder, then):
    return subprocess.Popen(
        [sys.executable, "-c", HOLD + then, str(folder)], stdout=subprocess.PIPE, stdin=subprocess.PIPE
    )


def test_second_run_is_refused_and_the_lock_passes_on(tmp_path):
    first = hold(tmp_path, "    print('held', flush=True); sys.stdin.read()")
    assert first.stdout.readline() == b"held\n"
    with (
        pytest.raises(InputError, match=f"process {first.pid}, started .*`kill -INT {first.pid}"),
        run_lock(tmp_path),
    ):
        pass
    first.communicate()
    with run_lock(tmp_path):
        assert str(os.getpid()) in (tmp_path / STATE_DIR / "run.lock").read_text()


def test_a_killed_holder_holds_nothing(tmp_path):
    killed = hold(tmp_path, "    import os; os.kill(os.getpid(), 9)")
    killed.communicate()
    with run_lock(tmp_path):
        pass


def test_a_flow_shares_the_lock_of_its_command(tmp_path):
    with run_lock(tmp_path):
        with run_lock(tmp_path, "the flow's id"):
            assert "the flow's id" in (tmp_path / STATE_DIR / "run.lock").read_text()
        with pytest.raises(InputError, match="another run is at work"), run_lock(tmp_path):
            pass
        other = hold(tmp_path, "    pass")
        other.communicate()
        assert other.returncode != 0
    assert (tmp_path / STATE_DIR / "run.lock").read_text() == ""


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.write_text("x"),
        lambda path: path.symlink_to(path),
        lambda path: path.symlink_to("/proc/none/x"),
    ],
    ids=["file", "link to itself", "link to what cannot be made"],
)
def test_something_else_in_the_place_of_our_folder(tmp_path, make):
    make(tmp_path / STATE_DIR)
    with (
        pytest.raises(InputError, match=r"\.virtex: cannot be the folder of .*; remove it"),
        run_lock(tmp_path),
    ):
        pass


def test_a_link_to_a_folder_on_another_disk_is_followed(tmp_path):
    (tmp_path / STATE_DIR).symlink_to("elsewhere")
    with run_lock(tmp_path):
        assert (tmp_path / "elsewhere" / "run.lock").is_file()


def sleeper(stage):
    return subprocess.Popen(
        ["sleep", "60"], start_new_session=True, env={**os.environ, STAGE_VARIABLE: stage}
    )


def test_an_orphaned_stage_is_stopped(tmp_path):
    process = sleeper("pretrain")
    note = note_group(tmp_path, "pretrain", process.pid)
    reaper = threading.Thread(target=process.wait)  # as init would
    reaper.start()
    assert stop_orphans(tmp_path) == ["pretrain"]
    reaper.join()
    assert process.returncode != 0
    assert not note.exists()
    assert stop_orphans(tmp_path) == []


def test_others_are_left_alone(tmp_path):
    process = sleeper("somebody else's")
    try:
        note_group(tmp_path, "pretrain", process.pid)
        (tmp_path / STATE_DIR / "stages" / "broken.json").write_text("{")
        assert stop_orphans(tmp_path) == []
        assert process.poll() is None
        assert not list((tmp_path / STATE_DIR / "stages").iterdir())
    finally:
        process.kill()
        process.wait()
