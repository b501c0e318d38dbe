"""SPICE (Anderson et al. 2016) by the Java program that pycocoevalcap brings.

It parses captions with Stanford CoreNLP 3.6.0, whose two files the library does not bring and which
are never fetched from here: `python -m pycocoevalcap.spice.get_stanford_models` does that (about
1 GB). The program writes its results through the JavaScript engine that Java had from 8 to 14.

The library's own class would download the models unasked, write into its package folder and wait
for ever. The program's cache of parsed references is left off: it breaks on Java 16 and newer and
on processors other than x86.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from pycocoevalcap.spice.get_stanford_models import JAR, SPICELIB
from pycocoevalcap.spice.spice import SPICE_JAR, Spice

from components.benchmarks.java import LOCALE_OPTIONS, find_java, java_version, last_words
from components.benchmarks.metric_interface import NotRun, Result, Texts

OLDEST_JAVA, NEWEST_JAVA = 8, 14
HEAP = "-Xmx8G"  # the program's documentation
START_SECONDS = 1800.0
IMAGE_SECONDS = 5.0  # five references and a caption to parse
FOLDER = Path(sys.modules[Spice.__module__].__file__ or "").parent


def spice(references: Texts, hypotheses: Texts) -> Result:
    """SPICE of the whole set, the mean over images, and of each image, as fractions.

    Raises:
        NotRun: without a fitting Java or CoreNLP's files, or if the program fails.
    """
    java = fitting_java()
    captions = [
        {"image_id": image_id, "test": hypotheses[image_id][0], "refs": texts}
        for image_id, texts in references.items()
    ]
    with tempfile.TemporaryDirectory() as folder:
        source, results = Path(folder, "captions.json"), Path(folder, "scores.json")
        source.write_text(json.dumps(captions), encoding="ascii")  # all else escaped
        program = ["-jar", SPICE_JAR, str(source), "-out", str(results), "-silent"]
        _run([java, *LOCALE_OPTIONS, HEAP, *program], START_SECONDS + IMAGE_SECONDS * len(captions))
        try:
            rows = json.loads(results.read_bytes())
            found = {row["image_id"]: float(row["scores"]["All"]["f"]) for row in rows}
            scores = [found[image_id] for image_id in references]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise NotRun(f"SPICE's Java program left results that cannot be read: {error!r}") from error
    return [sum(scores) / len(scores)], [scores]


def fitting_java() -> str:
    """The ``java`` that SPICE runs on.

    Raises:
        NotRun: without one of a version that fits, or without CoreNLP's files.
    """
    jars = (f"{JAR}.jar", f"{JAR}-models.jar")
    if missing := [name for name in jars if not (FOLDER / SPICELIB / name).is_file()]:
        raise NotRun(
            f"Stanford CoreNLP is not installed: pycocoevalcap has no {' and '.join(missing)}; "
            "`python -m pycocoevalcap.spice.get_stanford_models` fetches them"
        )
    java = find_java()
    version = java_version(java)
    if not OLDEST_JAVA <= version <= NEWEST_JAVA:
        raise NotRun(
            f"SPICE needs Java {OLDEST_JAVA} to {NEWEST_JAVA}, and this is Java {version}; "
            "set JAVA_HOME to an older one (METEOR runs on it too)"
        )
    return java


def _run(command: list[str], seconds: float) -> None:
    try:
        done = subprocess.run(
            command, cwd=FOLDER, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds
        )
    except subprocess.TimeoutExpired as error:
        raise NotRun(f"SPICE's Java program was stopped after {seconds:.0f} s") from error
    except OSError as error:
        raise NotRun(f"java cannot be started: {error}") from error
    if done.returncode:
        raise NotRun(f"SPICE's Java program failed: {last_words(done.stderr.decode(errors='replace'))}")
