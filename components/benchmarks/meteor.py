"""METEOR (Denkowski and Lavie 2014) by the Java program that pycocoevalcap brings."""

import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from pycocoevalcap.meteor.meteor import METEOR_JAR, Meteor

from components.benchmarks.java import LOCALE_OPTIONS, find_java, last_words
from components.benchmarks.metric_interface import NotRun, Result, Texts

HEAP = "-Xmx2G"  # the library's; a limit that Java takes from the machine only as needed
START_SECONDS = 300.0  # measured on two cores: 5 s to start, of which most is reading 60 MB of paraphrases,
IMAGE_SECONDS = 0.2  # and 3 ms an image


class _Scorer(Meteor):
    """The library's protocol on a process that is started and ended outside.

    Its own end waits for a lock that a failure leaves closed, and its stderr is a pipe nobody reads.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.meteor_p = process
        self.lock = threading.Lock()

    def __del__(self) -> None:
        pass


def meteor(references: Texts, hypotheses: Texts) -> Result:
    """METEOR of the whole set and of each image, as fractions.

    Raises:
        NotRun: without Java, or if the program fails or takes far too long.
    """
    seconds = START_SECONDS + IMAGE_SECONDS * len(references)
    with tempfile.TemporaryFile() as complaints, _running(complaints) as process:
        watch = threading.Timer(seconds, process.kill)
        watch.daemon = True
        watch.start()
        try:
            total, scores = _Scorer(process).compute_score(references, hypotheses)
        except (ValueError, OSError) as error:  # an empty answer, a closed pipe
            raise NotRun(_explained(process, complaints, seconds, watch.is_alive())) from error
        finally:
            watch.cancel()
    return [total], [scores]


@contextmanager
def _running(complaints: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    folder = Path(sys.modules[Meteor.__module__].__file__ or "").parent
    command = [
        find_java(),
        *LOCALE_OPTIONS,
        HEAP,
        "-jar",
        METEOR_JAR,
        "-",
        "-",
        "-stdio",
        "-l",
        "en",
        "-norm",
    ]
    try:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints
        )
    except OSError as error:
        raise NotRun(f"java cannot be started: {error}") from error
    with process:  # closes the pipes and waits
        try:
            yield process
        finally:
            process.kill()
            with suppress(OSError):  # what it no longer read
                process.stdin.close()  # type: ignore[union-attr]  # a pipe, see above


def _explained(process: subprocess.Popen[bytes], complaints: IO[bytes], seconds: float, in_time: bool) -> str:
    if not in_time:
        return f"METEOR's Java program was stopped after {seconds:.0f} s"
    process.kill()
    process.wait()
    complaints.seek(0)
    return f"METEOR's Java program failed: {last_words(complaints.read().decode(errors='replace'))}"
