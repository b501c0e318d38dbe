"""Every command of the guide is one that the programs take: options, keys, values, presets, stages."""

import argparse
import importlib.util
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from command_reference import command_parsers, commands_page
from dvc.cli.parser import get_main_parser
from guide_text import PAGES, REPOSITORY, Command, commands
from ruamel.yaml import YAML

from components.core.paths import backbone_path
from components.export.zoo.catalogue import zoo_model
from components.params import overlay
from components.params.families import chosen_family
from components.params.presets import PRESETS_DIR
from pipelines import cli
from pipelines.cli import CHILD_COMMANDS

COMMANDS = commands()
STAGES = YAML(typ="safe").load((REPOSITORY / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
TARGETS = re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.M)
PLACEHOLDER = re.compile(r"\b[A-Z]{2,}\b|section\.key")


def of(program: str) -> list[Command]:
    return list({str(command): command for command in COMMANDS if command.words[0] == program}.values())


@pytest.fixture(scope="module")
def parsers() -> dict[str, argparse.ArgumentParser]:
    return command_parsers()


def test_the_guide_has_commands() -> None:
    assert len(of("virtex")) > 50
    assert len(of("dvc")) > 10
    assert {"demo", "test"} <= {command.words[1] for command in of("make")}


@pytest.mark.parametrize("command", of("virtex"), ids=str)
def test_virtex(command: Command, parsers: dict[str, argparse.ArgumentParser], tmp_path: Path) -> None:
    words = command.words[1:]
    if " ".join(command.words) in parsers:  # only named
        return
    if words[0] in CHILD_COMMANDS:
        options = parsed(parsers[f"virtex {words[0]}"], words[1:], command)
    else:
        options = parsed(cli.build_parser(), words, command)
    if PLACEHOLDER.search(" ".join(words)):
        return
    presets = getattr(options, "presets", None) or [getattr(options, "preset", None)]
    for preset in presets:
        laid_over(preset, getattr(options, "overrides", []), tmp_path)
    if words[0] == "ablate":
        chosen_family(options.family, options.rows)
    if words[:1] == ("zoo",):
        source = getattr(options, "source", None) or getattr(options, "name", None)
        if source and "/" not in source:
            zoo_model(source)
    known_stages([*as_list(options, "targets"), *as_list(options, "more_targets")])


def as_list(options: argparse.Namespace, name: str) -> list[str]:
    return list(getattr(options, name, None) or [])


@pytest.mark.parametrize("command", of("dvc"), ids=str)
def test_dvc(command: Command, tmp_path: Path) -> None:
    options = parsed(get_main_parser(), command.words[1:], command)
    if PLACEHOLDER.search(" ".join(command.words)):
        return
    if command.words[1] in ("repro", "commit"):
        known_stages(options.targets)
    laid_over(None, getattr(options, "set_param", None) or [], tmp_path)


@pytest.mark.parametrize("command", of("make"), ids=str)
def test_make(command: Command) -> None:
    assert {word for word in command.words[1:] if "=" not in word} <= set(TARGETS)


@pytest.mark.parametrize("command", [*of("python"), *of("torchrun")], ids=str)
def test_modules(command: Command) -> None:
    if "-m" in command.words:
        module = command.words[command.words.index("-m") + 1]
        assert importlib.util.find_spec(module), module


def test_the_reference_has_every_command() -> None:
    page = commands_page()
    for name in (*CHILD_COMMANDS, "run", "ablate", "ui", "preset list", "zoo import"):
        assert f" virtex {name}\n" in page
    assert "--nucleus" in page


def test_variables_of_the_guide_are_read_somewhere() -> None:
    code = "".join(
        path.read_text(encoding="utf-8")
        for folder in ("components", "pipelines", "tests")
        for path in REPOSITORY.glob(f"{folder}/**/*.py")
    ) + (REPOSITORY / "hubconf.py").read_text(encoding="utf-8")
    for page in PAGES:
        for variable in re.findall(r"VIRTEX_[A-Z_]+", page.read_text(encoding="utf-8")):
            assert variable in code, f"{page}: {variable}"


def parsed(parser: argparse.ArgumentParser, words: Sequence[str], command: Command) -> argparse.Namespace:
    try:
        return parser.parse_args(list(words))
    except SystemExit as end:
        if end.code != 0:  # --help ends with 0
            pytest.fail(f"{command} is refused")
        return argparse.Namespace()


def laid_over(preset: str | None, overrides: Sequence[str], folder: Path) -> None:
    """Check them on a copy of params.yaml, beside which the backbones that the guide imports lie."""
    shutil.copy(REPOSITORY / "params.yaml", folder / "params.yaml")
    for command in of("virtex"):
        if command.words[1:3] == ("zoo", "import") and "--name" in command.words:
            name = command.words[command.words.index("--name") + 1]
            (folder / backbone_path(name)).parent.mkdir(parents=True, exist_ok=True)
            (folder / backbone_path(name)).touch()
    overlay(preset, list(overrides), folder / "params.yaml", REPOSITORY / PRESETS_DIR)


def known_stages(targets: Sequence[str]) -> None:
    for target in targets:
        name, _, item = target.partition("@")
        assert name in STAGES, target
        assert not item or "matrix" in STAGES[name] or "foreach" in STAGES[name], target
