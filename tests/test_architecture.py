"""The house rules that a machine can hold: who imports whom, and how long a file may be."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
FILES = sorted([*REPOSITORY.glob("components/**/*.py"), *REPOSITORY.glob("pipelines/**/*.py")])
LEAVES = {"components.core", "components.dataset_titles", "components.params"}
ROOMS = {  # room: the other rooms it may import
    "components.core": set(),
    "components.sources": set(),
    "components.text": set(),
    "components.data": {"components.sources"},
    "components.models": set(),
    "components.objectives": {"components.models"},
    "components.training": {"components.objectives"},
    "components.captioning": {
        "components.data",
        "components.models",
        "components.objectives",
        "components.text",
        "components.export",
    },
    "components.pretraining": {
        "components.captioning",
        "components.data",
        "components.objectives",
        "components.text",
        "components.tracking",
        "components.training",
    },
    "components.benchmarks": {
        "components.captioning",
        "components.export",  # a backbone's names in other libraries
        "components.objectives",
        "components.data",
        "components.models",
        "components.training",
        "components.sources",
        "components.text",
    },
    "components.bench": {  # everything but stages and commands
        "components.benchmarks",
        "components.data",
        "components.models",
        "components.objectives",
        "components.sources",
        "components.text",
        "components.training",
    },
    "components.doctor": {
        "components.benchmarks",
        "components.objectives",
        "components.sources",
        "components.tracking",
    },
    "components.comparison": {"components.benchmarks", "components.report"},
    "components.report": {
        "components.benchmarks",
        "components.data",
        "components.export",
        "components.sources",
    },
    "components.export": {"components.models", "components.objectives"},
    "components.tracking": set(),
    "components.params": {"components.core.errors", "components.core.files"},
    "pipelines": {
        "components.sources.fingerprint",  # both look whether data were touched
        "components.tracking",  # one MLflow store for stages and flows
    },
}


def imported_modules(path: Path) -> set[str]:
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            modules.add(node.module or "")
            modules.update(f"{node.module}.{alias.name}" for alias in node.names)
    return modules


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


def inside(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_imports_flow_one_way(path: Path) -> None:
    module = module_of(path)
    ours = {
        name for name in imported_modules(path) if inside(name, "components") or inside(name, "pipelines")
    }
    assert not any(inside(name, "components.stages") for name in ours), "nothing imports stages"
    if not inside(module, "components.commands"):
        assert not any(inside(name, "components.commands") for name in ours), "nothing imports commands"
    if not inside(module, "pipelines"):
        assert not any(inside(name, "pipelines") for name in ours), "components never import pipelines"
    for room, others in ROOMS.items():
        if inside(module, room):
            allowed = {room, *others, *LEAVES}
            wrong = {name for name in ours - {"components"} if not any(inside(name, a) for a in allowed)}
            assert not wrong, f"{room} may import {sorted(allowed)}, not {sorted(wrong)}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_files_hold_one_idea(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
    assert path.name != "utils.py"
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or path.name == "__init__.py"


def test_pipelines_never_load_torch() -> None:
    names = [module_of(path) for path in FILES if inside(module_of(path), "pipelines")]
    code = (
        f"import sys, importlib; [importlib.import_module(n) for n in {names!r}]; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY).returncode == 0
