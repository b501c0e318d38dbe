"""The house rules that a machine can hold: who imports whom, and how long a file may be."""

import ast
import itertools
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
    "components.training": {"components.data.normalisation", "components.objectives"},
    "components.captioning": {
        "components.data",
        "components.models",
        "components.objectives",
        "components.text",
        "components.export",
        "components.sources.image_files",
    },
    "components.pretraining": {
        "components.captioning",
        "components.data",
        "components.export.zoo",  # weights to start from
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
    "components.playground": {
        "components.benchmarks",  # the probe of likelihood, features
        "components.captioning",
        "components.data",
        "components.models",
    },
    "components.report": {
        "components.benchmarks",
        "components.data",
        "components.export",
        "components.sources",
        "components.tracking",
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


def started_modules(path: Path) -> set[str]:
    """Modules of ours that a file starts by name: what follows ``-m`` or ``--factory`` in a command line.

    Of a name put together when it runs, the fixed beginning; ``?`` if nothing of it is known here.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    constants = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        words = node.elts if isinstance(node, ast.List | ast.Tuple) else getattr(node, "args", [])
        if not isinstance(words, list):
            continue
        for option, word in itertools.pairwise(words):
            if isinstance(option, ast.Constant) and option.value in ("-m", "--factory"):
                value = constants.get(word.id, word) if isinstance(word, ast.Name) else word
                if isinstance(value, ast.JoinedStr):
                    value = value.values[0]
                known = isinstance(value, ast.Constant) and isinstance(value.value, str)
                found.add(value.value.partition(":")[0].rstrip(".") if known else "?")
    return {name for name in found if name == "?" or inside(name, "components") or inside(name, "pipelines")}


# Programs that a file starts by name although it must not import them: in processes of their own, with torch.
STARTED = {
    "pipelines.cli": {"components.commands"},  # becomes the command
    "pipelines.comparison": {"components.comparison"},  # draws
    "components.training.distributed": {"?"},  # the stage itself, in several processes
    "components.bench.pipeline": {"?"},  # itself
}


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
def test_programs_started_by_name_follow_the_same_rules(path: Path) -> None:
    module = module_of(path)
    started = started_modules(path) - STARTED.get(module, set())
    room = module.split(".")[0]
    wrong = {
        name
        for name in started
        if not inside(name, room) and not (room == "pipelines" and inside(name, "components.tracking"))
    }
    assert not wrong, f"{module} starts {sorted(wrong)} by name, which it may not import"


def test_programs_started_by_name_are_seen(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        "import sys\n_CLOSER = 'pipelines.closer'\nrun([sys.executable, '-m', _CLOSER, 'x'])\n"
        "exec(sys.executable, '-m', f'components.commands.{name}')\nrun(('-m', 'dvc'))\n"
        "run(['--factory', 'pipelines.server:app'])\nrun(['-m', *words])\n"
    )
    found = {"pipelines.closer", "components.commands", "pipelines.server", "?"}
    assert started_modules(tmp_path / "a.py") == found


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
