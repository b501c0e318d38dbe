"""What a stage's process prints: lines without progress-bar flicker, what DVC did, why it failed."""

import re
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator

from components.core.errors import FREES_SPACE
from components.core.foreign_text import printable
from components.core.redaction import redacted
from components.core.stage_lock import WAITED
from pipelines.graph import base_name

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_NOISE = (
    "Updating lock file",
    "Generating lock file",
    "To track the changes with git",
    "To enable auto staging",
    "Use `dvc push`",
    "\tgit add ",
    "\tdvc config core.autostage",
)
_STATES = (
    (re.compile(r"^Running stage '"), "ran"),
    (re.compile(r"^Stage '.*' is cached - skipping run"), "restored"),
    (re.compile(r"^Pulling data for stage"), "restored"),
    (re.compile(r"^(Stage )?'.*' didn't change, skipping"), "unchanged"),
)
_EXIT = re.compile(r"^ERROR: failed to reproduce .*, exited with (-?\d+)$")
_DVC_FAILED = re.compile(r"^ERROR: failed to reproduce '[^']*': (?!failed to run: )(.+)$")  # and no stage did
_KILLED = re.compile(r"killed by signal: Killed|exitcode\s*: -9\b|oom-kill", re.IGNORECASE)
_TRANSFER = "ERROR: failed to transfer "  # DVC's, one for each file that its cache has no room for
_KEPT_LINES = 400
_WITH_BATCHES = (  # sections with a batch_size, which is what takes the most memory
    *("pretrain", "voc07", "imagenet_linear", "inaturalist", "caption"),
    *("coco_segmentation", "lvis_segmentation", "voc_detection"),
)
_SHELL_SIGNALS = (signal.SIGABRT, signal.SIGBUS, signal.SIGKILL, signal.SIGSEGV)  # not 130, which is ours
_SHOWN_LINES = 15


class LineSplitter:
    """Bytes to lines; of a progress bar, redrawn with carriage returns, one line every ``seconds``."""

    def __init__(self, seconds: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._rest = b""
        self._drawn = ""  # the newest state of a bar, not shown yet
        self._last_shown = float("-inf")

    def feed(self, data: bytes) -> Iterator[str]:
        """Yield the lines that ``data`` completes."""
        *pieces, self._rest = re.split(rb"(?<=[\r\n])", self._rest + data)
        for piece in pieces:
            yield from self._piece(piece)

    def close(self) -> Iterator[str]:
        """Yield what is left at the end of the stream."""
        if self._rest:
            yield from self._piece(self._rest + b"\n")
        elif self._drawn:
            yield self._drawn
        self._rest, self._drawn = b"", ""

    def _piece(self, piece: bytes) -> Iterator[str]:
        text = _ESCAPES.sub("", piece.decode("utf-8", errors="replace")).rstrip()
        text = printable(text, kept="\t")
        if piece.endswith(b"\r"):
            self._drawn = text or self._drawn
            now = self._clock()
            if self._drawn and now - self._last_shown >= self._seconds:
                self._last_shown = now
                yield self._drawn
                self._drawn = ""
            return
        if not text and self._drawn:
            text = self._drawn
        self._drawn = ""
        if text:
            yield text


class StageOutput:
    """Reads a stage's lines one by one.

    Attributes:
        state: ``ran``, ``restored`` (from DVC's cache), ``unchanged``, or None before DVC said so.
        exit_status: of the stage's command once it has failed, else None; negative is a signal.
        waited_seconds: how long DVC and the stage waited for their locks.
    """

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._transfers = 0
        self.state: str | None = None
        self.exit_status: int | None = None
        self.waited_seconds = 0.0

    def feed(self, line: str) -> bool:
        """Take note of ``line``; returns whether it is worth showing."""
        if line.startswith(WAITED):
            self.waited_seconds += float(line.removeprefix(WAITED))
            return False
        line = redacted(line)
        for pattern, state in _STATES:
            if self.state is None and pattern.match(line):
                self.state = state
        if match := _EXIT.match(line):
            self.exit_status = int(match[1])
        if line.startswith(_TRANSFER):
            self._transfers += 1
        if line.startswith(_NOISE) or (line.startswith(_TRANSFER) and self._transfers > 1):
            return False
        self._lines.append(line)
        return True

    def error(self) -> str:
        """Say why the stage failed: the signal that killed it, or its own words."""
        number = killed_by(self.exit_status)
        words = self._words()
        if number is None and not (_KILLED.search("\n".join(self._lines)) and self.state == "ran"):
            return words
        section = base_name(self._stage)
        return f"{self._stage}: {_end_by_signal(number or signal.SIGKILL, section)}; before that:\n{words}"

    def _words(self) -> str:
        """Return its error message, its exception, or its last lines."""
        lines = [line for line in self._lines if not line.startswith("ERROR: failed to reproduce")]
        if self._transfers:
            first = next((line for line in lines if line.startswith(_TRANSFER)), "").removeprefix("ERROR: ")
            advice = f"; {FREES_SPACE}" if "No space left" in first else ""
            return f"{self._stage}: DVC's cache did not take {self._transfers:,} files: {first}{advice}"
        if dvc := [match[1] for line in self._lines if (match := _DVC_FAILED.match(line))]:
            advice = f"; {FREES_SPACE}" if "No space left" in dvc[-1] else ""
            return f"{self._stage}: DVC failed: {dvc[-1]}{advice}"
        own = f"{self._stage.partition('@')[0]}: error: "
        start = next((i for i, line in enumerate(lines) if line.startswith(own)), None)
        if start is not None:
            return "\n".join(lines[start : start + _SHOWN_LINES])
        start = next((i for i in reversed(range(len(lines))) if lines[i].startswith("Traceback (most")), None)
        if start is not None:
            raised = [i for i in range(start + 1, len(lines)) if not lines[i].startswith(" ")]
            if raised:
                return "\n".join(lines[raised[0] : raised[0] + _SHOWN_LINES])
        if len(lines) < len(self._lines) and self.state is None:
            lines = list(self._lines)  # DVC itself failed, before the stage's command
        return "\n".join(lines[-_SHOWN_LINES:]) or "exited without output"


def killed_by(exit_status: int | None) -> int | None:
    """Return the signal that killed a command, of which a shell makes 128 more; None if none did."""
    if exit_status is None or (exit_status >= 0 and exit_status - 128 not in _SHELL_SIGNALS):
        return None
    return -exit_status if exit_status < 0 else exit_status - 128


def _end_by_signal(number: int, section: str) -> str:
    if number == signal.SIGBUS:
        return "killed by signal 7, most likely as shared memory is full: enlarge /dev/shm"
    if number != signal.SIGKILL:
        return f"killed by signal {number} ({signal.strsignal(number) or 'unknown'})"
    setting = f"{section}.batch_size, " if section in _WITH_BATCHES else ""
    return (
        f"killed by signal 9, most likely out of memory (see `dmesg`): lower {setting}VIRTEX_NUM_WORKERS, "
        "or VIRTEX_MAX_PARALLEL and so the stages beside it, or end other programs; then start again"
    )
