"""``virtex doctor``: the whole examination, its exit status and JSON."""

import json
import sys
from pathlib import Path

import pytest

from components.commands import doctor as command
from components.commands import run_command
from components.doctor import attention, broken, fine, summary

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def doctor(tmp_path, monkeypatch, capsys):
    (tmp_path / "params.yaml").touch()
    monkeypatch.chdir(tmp_path)

    def run(*findings, options=()):
        monkeypatch.setattr(command, "examine", lambda: iter(findings))
        monkeypatch.setattr(sys, "argv", ["virtex doctor", *options])
        with pytest.raises(SystemExit) as caught:
            run_command(command.main)
        return caught.value.code, *capsys.readouterr()

    return run


def test_only_what_is_broken_fails(doctor):
    assert doctor(fine("a", "b"), attention("c", "d", "e"))[0] == 0
    code, output, _ = doctor(fine("a", "b"), broken("c", "d", "e"))
    assert code == 1
    assert output.endswith("\n1 fine, 1 broken\n")
    assert "-> e" in output


def test_json(doctor):
    code, output, _ = doctor(broken("c", "d", "e"), options=["--json"])
    assert code == 1
    assert json.loads(output) == [{"name": "c", "state": "broken", "found": "d", "advice": "e"}]


def test_elsewhere(doctor, tmp_path):
    (tmp_path / "params.yaml").unlink()
    code, _, errors = doctor()
    assert code == 2
    assert "root folder" in errors


def a_check_that_fails(_):
    raise RuntimeError("no luck")
    yield


def test_a_check_that_fails_is_a_finding(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(command, "CHECKS", (a_check_that_fails, lambda sections: iter([fine("x", "y")])))
    found = list(command.examine())
    assert [f.state for f in found] == ["fine", "broken", "fine"]
    assert found[1].name == "a check that fails"
    assert "no luck" in found[1].found


def test_parameters_that_cannot_be_read_do_not_end_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("tokenize: {}\n")
    seen = []
    monkeypatch.setattr(command, "CHECKS", (lambda sections: iter(seen.append(sections) or ()),))
    assert [f.state for f in command.examine()] == ["broken"]
    assert seen == [{}]


def test_no_check_needs_the_parameters(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command.software, "dvc", lambda _: iter(()))
    for check in command.CHECKS:
        assert all(f.state in ("fine", "attention", "broken") for f in check({})), check


def test_text():
    found = broken("disk", "word " * 40, "free some").shown(80).splitlines()
    assert found[0].startswith("broken     disk           word")
    assert found[-1].strip() == "-> free some"
    assert max(map(len, found)) <= 80
    findings = [fine("a", ""), fine("b", ""), attention("c", "", "")]
    assert summary(findings) == "2 fine, 1 attention"
