"""Lines, states and error messages read from a stage's output."""

import pytest
from hostile_texts import TEXTS

from components.core.errors import FREES_SPACE
from components.core.foreign_text import printable
from components.core.stage_lock import WAITED
from pipelines.output import LineSplitter, StageOutput


def lines_of(chunks, times=None):
    clock = iter(times) if times else iter(range(0, 10_000_000, 100))
    splitter = LineSplitter(seconds=10.0, clock=lambda: next(clock))
    found = [line for chunk in chunks for line in splitter.feed(chunk)]
    return found + list(splitter.close())


def test_lines_across_chunks():
    assert lines_of([b"one\ntw", b"o\r\n\nthree \xc3", b"\xa9"]) == ["one", "two", "three é"]


def test_progress_bars_are_thinned():
    chunks = [b"10%\r", b"20%\r", b"30%\r", b"40%\r\n", b"done\n"]
    assert lines_of(chunks, times=[0, 3, 11, 12]) == ["10%", "30%", "40%", "done"]


def test_colours_are_dropped():
    assert lines_of([b"\x1b[31mERROR\x1b[0m: no\n"]) == ["ERROR: no"]


@pytest.mark.parametrize(
    ("line", "state"),
    [
        ("Running stage 'lmdb@train':", "ran"),
        ("Stage 'lmdb@train' is cached - skipping run, checking out outputs", "restored"),
        ("Stage 'lmdb@train' didn't change, skipping", "unchanged"),
        ("hello", None),
    ],
)
def test_states(line, state):
    output = StageOutput("lmdb@train")
    assert output.feed(line)
    assert output.state == state


def test_a_stage_cannot_fake_another_state():
    output = StageOutput("a")
    output.feed("Running stage 'a':")
    output.feed("Stage 'a' didn't change, skipping")
    assert output.state == "ran"


def test_dvc_chatter_is_hidden():
    assert not StageOutput("a").feed("Updating lock file 'dvc.lock'")


def error_of(*lines):
    output = StageOutput("lmdb@train")
    for line in lines:
        output.feed(line)
    return output.error()


DVC_END = "ERROR: failed to reproduce 'lmdb@train': failed to run: python x, exited with 2"


def test_error_is_the_stage_message():
    message = error_of(
        "Running stage 'lmdb@train':", "x", "lmdb: error: params.yaml: bad key", "  try y", DVC_END
    )
    assert message == "lmdb: error: params.yaml: bad key\n  try y"


def test_error_is_the_exception():
    trace = ["Traceback (most recent call last):", '  File "a", line 1', "ValueError: no", "more words"]
    assert error_of("Running stage 'lmdb@train':", "x", *trace, DVC_END) == "ValueError: no\nmore words"


@pytest.mark.parametrize("status", ["-9", "137"])
def test_a_stage_killed_by_the_kernel_says_what_to_lower(status):
    end = DVC_END.replace("exited with 2", f"exited with {status}").replace("lmdb@train", "pretrain")
    output = StageOutput("pretrain")
    for line in ("Running stage 'pretrain':", "iteration 10", end):
        output.feed(line)
    first, *rest = output.error().splitlines()
    assert first.startswith("pretrain: killed by signal 9, most likely out of memory")
    assert "lower pretrain.batch_size, VIRTEX_NUM_WORKERS" in first
    assert rest == ["Running stage 'pretrain':", "iteration 10"]


def test_a_killed_worker_of_a_stage_is_told_too():
    trace = ["Traceback (most recent call last):", '  File "a"']
    died = "RuntimeError: DataLoader worker (pid 7) is killed by signal: Killed."
    end = DVC_END.replace("with 2", "with 1")
    message = error_of("Running stage 'lmdb@train':", *trace, died, end)
    assert message.startswith("lmdb@train: killed by signal 9, most likely out of memory")
    assert "batch_size" not in message
    assert message.endswith(died)


@pytest.mark.parametrize(("status", "signal"), [("130", None), ("75", None), ("139", 11), ("-15", 15)])
def test_other_ends(status, signal):
    message = error_of("Running stage 'lmdb@train':", "words", DVC_END.replace("with 2", f"with {status}"))
    assert message.startswith(f"lmdb@train: killed by signal {signal} (" if signal else "Running stage")


def test_waiting_for_locks_is_noted_and_hidden():
    output = StageOutput("a")
    assert not output.feed(f"{WAITED}1.5")
    assert not output.feed(f"{WAITED}2.25")  # DVC's lock, and the stage's own
    assert output.waited_seconds == 3.75


def test_secrets_are_not_kept():
    assert error_of("a: error at http://me:pa55@h/x?k=1") == "a: error at http://h/x"


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        ("[Errno 20] Not a directory: '/x/.dvc/cache/files/md5/8a'", ""),
        ("[Errno 28] No space left on device: '/x'", FREES_SPACE),
    ],
)
def test_error_is_that_of_dvc_itself(reason, advice):
    lines = [
        "Running stage 'lmdb@train':",
        "> python x",
        f"ERROR: failed to reproduce 'lmdb@train': {reason}",
    ]
    assert error_of(*lines) == f"lmdb@train: DVC failed: {reason}{advice and f'; {advice}'}"


def test_error_is_the_last_lines_else():
    assert error_of("Running stage 'lmdb@train':", "Killed", DVC_END).endswith("Killed")
    assert error_of(DVC_END) == DVC_END
    assert error_of() == "exited without output"


def test_a_terminal_obeys_no_line():
    lines = lines_of([text.encode() + b"\n" for text in TEXTS])
    assert [line for line in lines if line != printable(line)] == ["\t=1+1"]  # tables have tabs
    assert lines_of([b"\x1b]0;title\x07 \x9b31m bad\xff\x08\n"]) == ["\\x1b]0;title\\x07 �31m bad�\\x08"]


def test_a_full_cache_is_said_once():
    output = StageOutput("datasets")
    lines = [
        f"ERROR: failed to transfer '{n}' - [Errno 28] No space left on device: 'a' -> 'b'"
        for n in range(500)
    ]
    assert [output.feed(line) for line in lines].count(True) == 1
    assert output.error().startswith("datasets: DVC's cache did not take 500 files: failed to")
    assert "dvc gc --workspace" in output.error()
    assert len(output.error().splitlines()) == 1
