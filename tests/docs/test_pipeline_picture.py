"""The picture of the pipeline shows DVC's own graph."""

import ast
import re
import shutil
from pathlib import Path

import pytest
from dvc.repo import Repo
from dvc.scm import Git
from pipeline_picture import draw, read_stages, twins, without_shortcuts

from pipelines.dvc_internals import read_plan

REPOSITORY = Path(__file__).resolve().parents[2]
DIAMOND = {"a": set(), "b": {"a"}, "c": {"a"}, "d": {"a", "b", "c"}, "e": {"a", "d"}}


def stages() -> dict[str, set[str]]:
    return read_stages((REPOSITORY / "dvc.yaml").read_text(encoding="utf-8"))


def test_arrows_are_those_of_dvc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(REPOSITORY / name, tmp_path / name)
    Git.init(str(tmp_path)).close()
    Repo.init(str(tmp_path)).close()
    monkeypatch.chdir(tmp_path)
    dvcs: dict[str, set[str]] = {}
    for stage in read_plan().stages:
        upstream = {name.partition("@")[0] for name in stage.upstream}
        dvcs.setdefault(stage.name.partition("@")[0], set()).update(upstream)
    assert len(dvcs) > 10
    drawn = stages()
    assert {name: drawn[name] & set(dvcs) for name in dvcs} == dvcs


def test_shortcuts_are_left_out_and_twins_share_a_box() -> None:
    arrows = without_shortcuts(DIAMOND)
    assert arrows == {"a": set(), "b": {"a"}, "c": {"a"}, "d": {"b", "c"}, "e": {"d"}}
    assert twins(arrows) == {
        ("a",): set(),
        ("b", "c"): {("a",)},
        ("d",): {("b", "c")},
        ("e",): {("d",)},
    }


def test_every_stage_is_drawn_once_and_linked() -> None:
    svg = draw(stages(), lambda stage: None if stage == "report" else f"{stage}.html")
    for name in stages():
        assert svg.count(f">{name}</text>") == 1
        assert (f'<a href="{name}.html">' in svg) == (name != "report")


def test_the_way_of_a_caption_names_what_there_is() -> None:
    text = (REPOSITORY / "docs" / "pipeline.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `(components/[^`]+\.py)`, (.+?) \|", text, re.MULTILINE)
    assert len(named) > 10
    for file, names in named:
        defined = {
            node.name
            for node in ast.walk(ast.parse((REPOSITORY / file).read_text(encoding="utf-8")))
            if isinstance(node, ast.FunctionDef | ast.ClassDef)
        }
        assert set(re.findall(r"`(\w+)`", names)) <= defined, file
