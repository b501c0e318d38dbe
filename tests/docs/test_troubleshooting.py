"""The errors of the troubleshooting page are those that the programs give today."""

import ast
import functools
import itertools
import shutil
from pathlib import Path

import pytest
from dvc.repo import Repo
from dvc.scm import Git
from guide_text import REPOSITORY, fences, typed

from pipelines import cli
from pipelines.cli import CHILD_COMMANDS

PAGE = REPOSITORY / "docs" / "troubleshooting.md"
BLOCKS = fences(PAGE)
PLAIN = "virtex: error: "
FOREIGN = ("ERROR: ",)  # in DVC's words
SHORTEST = 20  # characters of our own words by which a message is known


def replayed() -> list[tuple[dict[str, str], tuple[str, ...], str]]:
    """Variables and commands that end before any stage starts, with the message that follows on the page."""
    return [
        (variables_of(body), command, answer)
        for (language, body), (_, answer) in itertools.pairwise(BLOCKS)
        if language == "sh" and answer.startswith(PLAIN)
        for command in typed(body)
        if command[1] not in CHILD_COMMANDS
    ]


def variables_of(body: str) -> dict[str, str]:
    """What a block's command has before its name, ``NAME=VALUE``."""
    return dict(word.split("=", 1) for word in body.split(" virtex ")[0].split() if "=" in word)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workspace")
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(REPOSITORY / name, folder / name)
    shutil.copytree(REPOSITORY / "presets", folder / "presets")
    Git.init(str(folder)).close()
    Repo.init(str(folder)).close()
    return folder


@pytest.mark.parametrize(
    ("variables", "command", "message"), replayed(), ids=lambda value: " ".join(value)[:60]
)
def test_command_gives_this_message(
    variables: dict[str, str],
    command: tuple[str, ...],
    message: str,
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(workspace)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    def started(*_: object) -> None:
        pytest.fail("it was not refused")

    monkeypatch.setattr("pipelines.servers.Server", started)
    monkeypatch.setattr("pipelines.commands.run.server_watched", started)
    assert cli.main(command[1:]) == 2
    assert capsys.readouterr().err.split() == message.split()


def messages() -> list[str]:
    """Other answers in our own words."""
    seen = {answer for _, _, answer in replayed()}
    return [body for language, body in BLOCKS if language == "text" and body not in seen]


@pytest.mark.parametrize("message", messages(), ids=lambda message: message[:50])
def test_code_still_has_the_words(message: str) -> None:
    if message.startswith(FOREIGN):
        return
    assert any(words in message for words in our_words()), "no part of it is in the code any more"


@functools.cache
def our_words() -> set[str]:
    """The fixed parts of all texts in the code that are long enough to tell a message by."""
    found = set()
    for folder in ("components", "pipelines"):
        for path in REPOSITORY.glob(f"{folder}/**/*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    words = node.value.strip()
                    if len(words) >= SHORTEST:
                        found.add(words)
    return found


def test_there_is_enough_to_hold() -> None:
    assert len(replayed()) >= 9
    assert len(messages()) >= 10
