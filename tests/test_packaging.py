"""Pins, environment, container and CI agree with each other."""

import itertools
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet
from ruamel.yaml import YAML

REPOSITORY = Path(__file__).resolve().parent.parent
PINS = dict(
    line.split("==", 1)
    for line in (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
)


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def direct_dependencies() -> set[str]:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    return {canonical(re.match(r"[A-Za-z0-9._-]+", entry)[0]) for entry in listed}


def test_every_direct_dependency_is_pinned() -> None:
    assert direct_dependencies() <= {canonical(name) for name in PINS}


def test_constraints_hold_only_exact_versions() -> None:
    for name, version in PINS.items():
        assert re.fullmatch(r"[A-Za-z0-9._-]+", name)
        assert re.fullmatch(r"[0-9A-Za-z.!+]+", version), f"{name}=={version}"


def test_pins_are_for_every_python_that_is_allowed() -> None:
    """Debian 12 has 3.11.2, say; of pins that are installed here."""
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        needed = SpecifierSet(distribution.metadata.get("Requires-Python") or "")
        if PINS.get(name) == distribution.version:
            assert all(python in needed for python in ("3.11.0", "3.12.0", "3.13.0")), f"{name}: {needed}"


def test_conda_environment_repeats_no_version() -> None:
    tree = YAML(typ="safe").load((REPOSITORY / "environment.yml").read_text(encoding="utf-8"))
    (pip,) = (entry["pip"] for entry in tree["dependencies"] if isinstance(entry, dict))
    extras = re.search(r"--editable '(.+)'$", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.M)[1]
    assert pip == ["--constraint constraints.txt", f"--editable {extras}"]


def test_versions_that_are_known_to_work_together() -> None:
    assert PINS["dvc"] == "3.67.1"
    assert PINS["prefect"] == "3.8.8"
    assert PINS["mlflow"] == "3.17.2"
    assert tuple(int(part) for part in PINS["fastapi"].split(".")[:2]) < (0, 151)


def test_ci_and_container_run_the_make_targets() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.M))
    ci = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
    container = (REPOSITORY / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    assert os.access(REPOSITORY / ".ci" / "run", os.X_OK)
    commands = re.findall(r"^(?:RUN )?make (?:--\S+ )*([a-z]+(?: [a-z]+)*)", ci + "\n" + container, re.M)
    used = {target for command in commands for target in command.split()}
    used |= set(re.findall(r'"make", "([a-z-]+)"', container))
    assert {"lint", "docs", "test", "demo", "setup"} <= used <= targets


def test_files_beside_the_code_are_packaged() -> None:
    tools = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    packaged = {
        path
        for package, patterns in tools["package-data"].items()
        for pattern in patterns
        for path in (REPOSITORY / package.replace(".", "/")).glob(pattern)
    }
    beside = {
        path
        for room in ("components", "pipelines")
        for path in (REPOSITORY / room).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert beside == packaged


@pytest.mark.parametrize(
    ("schema", "pattern"),
    [
        ("vendor.citation-file-format", "CITATION.cff"),
        ("vendor.github-workflows", ".github/workflows/*.yml"),
        ("vendor.github-issue-forms", ".github/ISSUE_TEMPLATE/*.yml"),
    ],
)
def test_files_for_the_hosting_keep_their_schemas(schema: str, pattern: str, tmp_path: Path) -> None:
    paths = sorted(REPOSITORY.glob(pattern))
    assert paths
    wrong = tmp_path / "wrong.yml"
    wrong.write_text("autors: [nobody]\n", encoding="utf-8")
    command = [Path(sys.executable).with_name("check-jsonschema"), "--builtin-schema", schema]
    assert subprocess.run([*command, *paths], check=False).returncode == 0
    assert subprocess.run([*command, wrong], check=False).returncode == 1


def test_the_version_is_said_alike() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = YAML(typ="safe").load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    newest = re.search(r"^## (\S+?),? ", (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)[1]
    assert project["version"] == citation["version"] == newest
    assert project["license"] == citation["license"] == "MIT"
    assert (REPOSITORY / "LICENSE").read_text(encoding="utf-8").startswith("MIT License\n")
    assert citation["preferred-citation"]["title"].startswith("VirTex:")


@pytest.mark.parametrize(
    ("committed", "status", "asked"), [(False, 1, False), (True, 0, True), (True, 1, True)]
)
def test_ci_refuses_results_that_are_stale_where_any_are_committed(
    tmp_path: Path, committed: bool, status: int, asked: bool
) -> None:
    (tmp_path / "clone" / ".ci").mkdir(parents=True)
    clone = tmp_path / "clone"
    (clone / ".ci" / "run").write_bytes((REPOSITORY / ".ci" / "run").read_bytes())
    (clone / "dvc.lock").write_text("schema: '2.0'\n")
    for path, code in ((tmp_path / "make", 0), (clone / ".venv" / "bin" / "virtex", status)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'#!/bin/sh\necho "$(basename "$0") $*" >> "{tmp_path}/said"\nexit {code}\n')
        path.chmod(0o755)
    subprocess.run(["git", "init", "-q"], cwd=clone, check=True)
    if committed:
        subprocess.run(["git", "add", "dvc.lock"], cwd=clone, check=True)
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", ".ci/run"], cwd=clone, env=environment)
    said = (tmp_path / "said").read_text().splitlines()
    assert ("virtex status --check" in said) == asked
    assert (done.returncode == 0) == (not asked or status == 0)
    assert any(line.startswith("make test") for line in said) == (done.returncode == 0)
