"""What DVC and the Prefect flow cost: this repository's own graph, its stages emptied.

Every stage's command is replaced by one that makes empty outputs, so that what is left is overhead.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from components.bench.timing import Comparison, Spread, in_turn
from components.core.errors import InputError

CODE = ("components", "pipelines", "presets")
NEEDED_EMPTY = "datasets/archives"  # git keeps this folder, a dep that no stage makes; archives may lie there
SERVERS = ("MLFLOW_TRACKING_URI", "PREFECT_API_URL")  # hollow runs are nothing to keep on a team's
NOTHING_TO_DO_SECONDS = 5.0
FLOW_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Size:
    """Which stages; None for all."""

    stages: tuple[str, ...] | None = None


FULL = Size()
QUICK = Size(("datasets", "tokenize"))


def run(size: Size, rounds: int) -> list[Comparison]:
    """Measure runs per second of DVC alone (baseline) and of the flow (ours): all stages, then none."""
    repository = Path.cwd()
    if not (repository / "dvc.yaml").is_file():
        raise InputError(f"no dvc.yaml in {repository}: run it in the repository's root folder")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        targets = hollow_repository(repository, folder, size.stages)
        dvc, flow = ("dvc", "repro", "--quiet"), ("pipelines.cli", "run")
        _run(folder, [*dvc, *targets])
        first = in_turn([lambda: _run(folder, [*flow, "--force", *targets])], 1, warm_up=0)[0].wall[0]
        everything = in_turn(
            (
                lambda: _run(folder, [*dvc, "--force", *targets]),
                lambda: _run(folder, [*flow, "--force", *targets]),
            ),
            rounds,
            warm_up=0,
        )
        nothing = in_turn(
            (lambda: _run(folder, [*dvc, *targets]), lambda: _run(folder, [*flow, *targets])),
            rounds,
            warm_up=0,
        )
    added = Spread.of(everything[1].wall).median - Spread.of(everything[0].wall).median
    idle = Spread.of(nothing[0].wall).median
    return [
        Comparison(
            "all stages, hollow: virtex run beside dvc repro",
            1,
            "runs",
            "wall",
            everything[0],
            everything[1],
            figures={
                "the flow adds": f"{added:.1f} s ({_verdict(added, FLOW_SECONDS)})",
                "the first run of a workspace, which creates the databases, takes": f"{first:.1f} s",
            },
        ),
        Comparison(
            "nothing to do: virtex run beside dvc repro",
            1,
            "runs",
            "wall",
            nothing[0],
            nothing[1],
            figures={"dvc repro takes": f"{idle:.1f} s ({_verdict(idle, NOTHING_TO_DO_SECONDS)})"},
        ),
    ]


def hollow_repository(repository: Path, folder: Path, stages: Sequence[str] | None) -> list[str]:
    """Copy code and parameters to ``folder``, its dvc.yaml with commands that only make outputs.

    Returns:
        the targets of a run: the stages asked for, or none for all.
    """
    for name in CODE:
        shutil.copytree(repository / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / NEEDED_EMPTY).mkdir(parents=True)
    shutil.copy(repository / "params.yaml", folder)
    yaml = YAML()
    yaml.width = 2**20  # a command stays on one line
    pipeline = yaml.load(repository / "dvc.yaml")
    definitions = [stage.get("do", stage) for stage in pipeline["stages"].values()]
    dependencies = [path for stage in definitions for path in _dependencies(stage)]
    for stage in definitions:
        stage["cmd"] = " && ".join(_make(path, dependencies) for path in _outputs(stage))
    yaml.dump(pipeline, folder / "dvc.yaml")
    _run(folder, ["dvc", "init", "--no-scm", "--quiet"])
    return list(stages or ())


def _outputs(stage: Mapping[str, Any]) -> list[str]:
    entries = [entry for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, [])]
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def _dependencies(stage: Mapping[str, Any]) -> list[str]:
    """Return the stage's dependencies, one for each value that its matrix lists."""
    found = [str(path) for path in stage.get("deps", [])]
    for name, values in stage.get("matrix", {}).items():
        if not isinstance(values, str):
            word = f"${{item.{name}}}"
            found = [path.replace(word, value) for path in found for value in values]
    return list(dict.fromkeys(found))


def _make(path: str, dependencies: Sequence[str]) -> str:
    """Return a command that makes ``path``: a file, or a folder with the files that other stages read."""
    inside = [
        other if Path(other).suffix else f"{other}/file"
        for other in dependencies
        if other.startswith(path + "/")
    ]
    is_folder = bool(inside) or not Path(path).suffix
    made = [*inside, *([f"{path}/file"] if is_folder and not inside else [])] or [path]
    return " && ".join(f"install -D /dev/null {file}" for file in made)


def _run(folder: Path, arguments: Sequence[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in SERVERS}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    environment |= {"PYTHONPATH": str(folder), "PATH": path, "DVC_NO_ANALYTICS": "1"}
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def _verdict(seconds: float, limit: float) -> str:
    return f"target: under {limit:g} s, {'met' if seconds < limit else 'missed'}"
