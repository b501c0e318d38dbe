"""The command line: mistakes, the wrong place, and commands that are processes of their own."""

import argparse
import itertools
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from pipelines import cli

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "arguments",
    [
        ["preset", "apply", "tyni"],
        ["run", "--set", "tokenize.vocab_sise=3"],
        ["run", "--preset", "x"],
        ["report"],
    ],
)
def test_bad_input_costs_nothing(small_workspace, capsys, arguments):
    before = (small_workspace / "params.yaml").read_text()
    assert cli.main(arguments) == 2
    assert capsys.readouterr().err.startswith("virtex: error: ")
    assert (small_workspace / "params.yaml").read_text() == before


@pytest.mark.parametrize("command", [["run"], ["ui"], ["report"], ["preset", "list"]])
def test_elsewhere_nothing_is_done(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    assert cli.main(command) == 2
    assert "repository's root folder" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_command_of_components_takes_the_place_of_the_process(monkeypatch, capsys):
    started = []

    def replaced(*call):
        started.append(call)
        raise SystemExit

    monkeypatch.setitem(cli.CHILD_COMMANDS, "paint", "paint it")
    monkeypatch.setitem(cli.GROUPS, "painting", ("paint",))
    monkeypatch.setattr("os.execv", replaced)
    with pytest.raises(SystemExit):
        cli.main(["paint", "--help", "--set", "x", "y.jpg"])
    command = [sys.executable, "-m", "components.commands.paint", "--help", "--set", "x", "y.jpg"]
    assert started == [(sys.executable, command)]
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    assert "paint it" in capsys.readouterr().out


def test_each_command_is_listed_and_has_its_module():
    def modules(folder: str) -> set[str]:
        return {path.stem for path in (REPOSITORY / folder).glob("*.py")} - {"__init__"}

    (subparsers,) = (a for a in cli.build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    assert modules("components/commands") == set(cli.CHILD_COMMANDS)
    assert set(subparsers.choices) == {
        *modules("components/commands"),
        *("run", "serve", "status", "ablate", "cluster", "worker", "ui", "report", "preset", "completion"),
    }
    assert sorted(itertools.chain(*cli.GROUPS.values())) == sorted(subparsers.choices)


@pytest.mark.parametrize(
    ("mistyped", "meant"),
    [
        ("statsu", "status"),
        ("run --prset mini", "--preset"),
        ("preset lst", "list"),
        ("status --jsn", "--json"),
        ("completion bsh", "bash"),
    ],
)
def test_what_is_mistyped_gets_its_nearest(capsys, mistyped, meant):
    with pytest.raises(SystemExit) as caught:
        cli.main(mistyped.split())
    assert caught.value.code == 2
    assert f"did you mean `{meant}`?" in capsys.readouterr().err


def test_version(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"virtex {metadata.version('virtex-pipeline')}\n"


def test_a_shell_completes_commands_options_and_choices(tmp_path, monkeypatch, capsys):
    """In bash itself, wherever the command was run; of commands that start another process too."""
    monkeypatch.chdir(tmp_path)
    assert cli.main(["completion", "bash"]) == 0
    script = tmp_path / "virtex.bash"
    script.write_text(capsys.readouterr().out)

    def completed(line: str) -> list[str]:
        words = f"COMP_WORDS=({line}); COMP_CWORD={len(line.split()) - 1}"
        ask = f'source {script}; {words}; _shtab_virtex virtex; echo "${{COMPREPLY[@]}}"'
        return subprocess.run(["bash", "-c", ask], capture_output=True, text=True).stdout.split()

    assert completed("virtex sta") == ["status"]
    assert completed("virtex status --js") == ["--json"]
    assert completed("virtex zoo im") == ["import"]
    assert completed("virtex ablate wid") == ["width"]
    assert completed("virtex bench da") == ["data"]
    assert completed("virtex caption --nuc") == ["--nucleus"]
    assert "onnx" in completed("virtex export --format o")


@pytest.mark.parametrize(("arguments", "status"), [(["--help"], 0), (["preset", "list"], 1)])
def test_a_reader_that_went_away_ends_any_command_without_a_word(small_workspace, arguments, status):
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", *arguments], stdout=write, stderr=subprocess.PIPE, text=True
    )
    os.close(write)
    assert (ended.returncode, ended.stderr) == (status, "")
