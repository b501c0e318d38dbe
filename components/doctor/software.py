"""Python, the installed packages, Git, and the parameters themselves."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from components.doctor.finding import Finding, Sections, broken, fine

DISTRIBUTION = "virtex-pipeline"
INSTALL = "run `make setup`, or pip install -c constraints.txt -e ."


def python(_: Sections) -> Iterator[Finding]:
    version = "{}.{}.{}".format(*sys.version_info[:3])
    try:
        supported = metadata.metadata(DISTRIBUTION)["Requires-Python"]
    except metadata.PackageNotFoundError:
        yield broken("Python", f"{version}, without this project", INSTALL)
        return
    if SpecifierSet(supported).contains(version):
        yield fine("Python", version)
    else:
        advice = f"make the environment with a Python {supported}: make setup PYTHON=/path/to/python"
        yield broken("Python", version, advice)


def packages(_: Sections) -> Iterator[Finding]:
    """Each package that the project asks for, without its extras, in a version that it allows."""
    wrong = [fault for text in metadata.requires(DISTRIBUTION) or () if (fault := _fault(Requirement(text)))]
    if wrong:
        yield broken("packages", "; ".join(wrong), INSTALL)
    else:
        yield fine("packages", "all there, in versions that fit")


def _fault(requirement: Requirement) -> str | None:
    if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
        return None
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return f"{requirement.name} is missing"
    if requirement.specifier.contains(version, prereleases=True):
        return None
    return f"{requirement.name} is {version}, expected {requirement.specifier}"


def git(_: Sections) -> Iterator[Finding]:
    program = shutil.which("git")
    if program is None:
        yield broken("Git", "not on the PATH", "install it: apt-get install git")
        return
    done = subprocess.run([program, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no words"])[0]
        yield broken("Git", f"no commit can be read here: {said}", "get the project with `git clone`")
    else:
        yield fine("Git", f"at commit {done.stdout.strip()}")
