"""dvc.yaml against the stages' own code: sections, paths, entry points."""

import ast
import functools
import importlib
import itertools
import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from components import params
from components.core import paths
from components.core.datasets import DATASETS
from components.params.reading import section_name
from pipelines.graph import read_meta

REPOSITORY = Path(__file__).resolve().parent.parent
PARAMS = YAML(typ="safe").load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
WRITTEN = YAML(typ="safe").load((REPOSITORY / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
STAGES = {name: stage.get("do", stage) for name, stage in WRITTEN.items()}
UNWATCHED = [
    REPOSITORY / "components" / name
    for name in (
        *("params", "tracking", "entry.py"),
        "dataset_titles.py",  # names of data in titles and in MLflow, no figure
    )
] + [
    path
    for path in (REPOSITORY / "components" / "core").glob("*.py")
    if path.stem != "published"  # which the backbones of the zoo and the report are made by
]


# By stage: what only says which of its results are worth keeping; a later stage chooses, and watches it.
HINTS = {"pretrain": [REPOSITORY / "components" / room for room in ("benchmarks", "sources")]}


def items(name: str) -> list[dict[str, str]]:
    """Return what stands for each ``${...}`` in a stage's entries, by item, as params.yaml has them."""
    stage = WRITTEN[name]
    if "foreach" in stage:
        return [{"${key}": str(value)} for value in values_of(stage["foreach"])]
    words = [[(f"${{item.{key}}}", v) for v in values_of(of)] for key, of in stage.get("matrix", {}).items()]
    return [dict(combination) for combination in itertools.product(*words)]


def values_of(written: str | list[str]) -> list[str]:
    if isinstance(written, list):
        return written
    section, key = written.removeprefix("${").removesuffix("}").split(".")
    return list(PARAMS[section][key] or DATASETS)


def expanded(name: str, text: str) -> set[str]:
    """Return an entry of a stage once per item."""
    found = set()
    for item in items(name):
        one = text
        for word, value in item.items():
            one = one.replace(word, value)
        found.add(one)
    return found


def outputs(name: str) -> list[str]:
    stage = STAGES[name]
    entries = [*stage.get("outs", []), *stage.get("metrics", []), *stage.get("plots", [])]
    found = [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]
    return sorted(path for entry in found for path in expanded(name, entry))


def watched_sections(name: str) -> set[str]:
    written = STAGES[name].get("params", [])
    return {key.split(".")[0] for entry in written for key in expanded(name, entry)}


@pytest.mark.parametrize("name", STAGES)
def test_stage_reads_the_sections_that_dvc_watches(name: str) -> None:
    module = importlib.import_module(f"components.stages.{name}")
    sections = module.SECTIONS.values() if isinstance(module.SECTIONS, dict) else module.SECTIONS
    assert {section_name(section) for section in sections} == watched_sections(name)


@pytest.mark.parametrize("name", STAGES)
def test_stage_has_a_thin_entry_point_with_all_it_needs(name: str) -> None:
    stage = STAGES[name]
    assert stage["cmd"].split(" ${")[0] == f"python -m components.stages.{name}"
    source = REPOSITORY / "components" / "stages" / f"{name}.py"
    assert f"components/stages/{name}.py" in stage["deps"]
    assert ast.get_docstring(ast.parse(source.read_text(encoding="utf-8")))
    assert stage["deps"]
    is_recorded = name != "sources"  # which runs every time
    assert any(path.endswith("metrics.json") for path in outputs(name)) == is_recorded
    for path in outputs(name):
        assert path.startswith(("data/", "datasets/archives/", "outputs/")), path
    assert any(path.endswith(paths.MLFLOW_RUN_FILE) for path in outputs(name)) == is_recorded


@pytest.mark.parametrize("name", STAGES)
def test_dependencies_on_code_exist(name: str) -> None:
    made = {path for stage in STAGES for path in outputs(stage)}
    holding = {str(folder) for path in made for folder in Path(path).parents}
    for dependency in STAGES[name]["deps"]:
        if dependency.startswith(("components/", "presets/")):
            assert (REPOSITORY / dependency).exists(), dependency
            continue
        for path in expanded(name, dependency):
            parents = {str(parent) for parent in Path(path).parents} | {path}
            assert parents & made or path in holding, f"no stage makes {path}"


def imported_files(source: Path) -> set[Path]:
    """Our files that ``source`` imports, without what decides how a stage runs but not what it makes."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}", *(f"{node.module}.{alias.name}" for alias in node.names)}
    files = {REPOSITORY / f"{name.replace('.', '/')}.py" for name in names if name.startswith("components.")}
    return {file for file in files if file.is_file() and not any(map(file.is_relative_to, UNWATCHED))}


@functools.cache
def code_files(name: str) -> frozenset[Path]:
    """Return the stage's entry point and all that it imports, and these in turn."""
    found: set[Path] = set()
    waiting = [REPOSITORY / "components" / "stages" / f"{name}.py"]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += imported_files(file)
    return frozenset(found)


@pytest.mark.parametrize("name", sorted(STAGES.keys() - {"download", "sources"}))  # dvc.yaml says why
def test_dvc_watches_the_folders_of_the_code_that_makes_the_outputs(name: str) -> None:
    found = code_files(name)
    watched = [REPOSITORY / dependency for dependency in STAGES[name]["deps"]]
    kept = [*watched, *HINTS.get(name, [])]
    unwatched = {file for file in found if not any(file.is_relative_to(place) for place in kept)}
    assert not unwatched
    code = [place for place in watched if place.is_relative_to(REPOSITORY / "components")]
    modules = [place for place in code if place.is_dir() or place.suffix == ".py"]  # not templates
    assert not [place for place in modules if not any(file.is_relative_to(place) for file in found)]


@pytest.mark.parametrize("name", sorted(STAGES.keys() - {"report"}))  # which knows the protocols, no more
def test_stages_that_compute_ask_for_a_gpu(name: str) -> None:
    entry = (REPOSITORY / "components" / "stages" / f"{name}.py").read_text(encoding="utf-8")
    benchmarks = [file for file in code_files(name) if "benchmarks" in file.parts]
    computes = any("device_name()" in text for text in (entry, *map(Path.read_text, benchmarks)))
    meta = read_meta(name, {**STAGES[name].get("meta", {}), "memory_heavy": False})
    assert meta.gpus == ("all" if "in_several_processes=True" in entry else int(computes))


def test_paths_are_those_of_the_code() -> None:
    made = {path for stage in STAGES for path in outputs(stage)}
    for path in (
        paths.DATASETS_DIR,
        paths.TOKENIZER_MODEL.parent,
        paths.lmdb_path("train"),
        paths.lmdb_path("val"),
        paths.CANDIDATES_DIR,
        paths.CAPTIONER,
        paths.backbone_path("virtex"),
        paths.backbone_path("random"),
        paths.REPORT_DIR / "report.md",
    ):
        assert str(path) in made, path


@pytest.mark.parametrize("name", sorted(STAGES.keys() - {"report"}))
def test_stages_wait_for_their_own_dataset_only(name: str) -> None:
    used = [place for place in STAGES[name]["deps"] if place.startswith("data/datasets")]
    assert "data/datasets" not in used
    assert str(paths.DATASETS_MANIFEST) not in used


def test_every_section_belongs_to_a_stage() -> None:
    assert set().union(*map(watched_sections, STAGES)) == set(params.SECTIONS)


@pytest.mark.parametrize("name", STAGES)
def test_plots_have_templates_and_titles_of_their_own(name: str) -> None:
    own = {path.stem: path.read_text(encoding="utf-8") for path in REPOSITORY.glob(".dvc/plots/*.json")}
    plots = [next(iter(entry.items())) for entry in STAGES[name].get("plots", []) if isinstance(entry, dict)]
    for path, plot in plots:
        words = [word for item in items(name)[:1] for word in item]
        assert all((word in path) == (word in plot["title"]) for word in words), f"{path}: which item's plot?"
        assert plot.get("template", "linear") in {*own, "linear", "scatter", "confusion"}
    for text in own.values():
        assert "<DVC_METRIC_DATA>" in text
        json.loads(text)
