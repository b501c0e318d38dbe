"""Lines, states and error messages read from a stage's output."""

import pytest

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


def test_error_is_the_last_lines_else():
    assert error_of("Running stage 'lmdb@train':", "Killed", DVC_END).endswith("Killed")
    assert error_of(DVC_END) == DVC_END
    assert error_of() == "it ended without a word"
