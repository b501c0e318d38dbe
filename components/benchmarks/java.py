"""Where Java is, how old it is, and how to read what its programs complain of."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from components.benchmarks.metric_interface import NotRun

# Both programs read numbers or text as the machine's locale writes them; under de_DE METEOR dies of "0.5".
LOCALE_OPTIONS = ("-Duser.language=en", "-Duser.country=US", "-Dfile.encoding=UTF-8")
VERSION_SECONDS = 60.0


def find_java() -> str:
    """The ``java`` of JAVA_HOME, or else of the PATH.

    Raises:
        NotRun: if there is none.
    """
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=str(Path(home, "bin"))) if home else shutil.which("java")
    if java is None:
        where = "in JAVA_HOME" if home else "on the PATH"
        raise NotRun(f"there is no java {where}; install a Java runtime and run the stage again")
    return java


def java_version(java: str) -> int:
    """Feature version: 8 for "1.8.0_412", 17 for "17.0.15".

    Raises:
        NotRun: if the program does not say.
    """
    try:
        answer = subprocess.run(
            [java, *LOCALE_OPTIONS, "-version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=VERSION_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotRun(f"java does not run: {error}") from error
    text = (answer.stderr + answer.stdout).decode(errors="replace")
    found = re.search(r'version "(?:1\.)?(\d+)', text)
    if answer.returncode or not found:
        raise NotRun(f"`java -version` says: {last_words(text)}")
    return int(found[1])


def last_words(text: str, num_characters: int = 300) -> str:
    """The last lines of a program's complaint, without Java's stack, as one line for messages."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    complaints = [line for line in lines if not line.startswith(("at ", "... "))]
    return " | ".join(complaints[-3:])[:num_characters] or "nothing"
