"""``virtex doctor``: exit status and JSON."""

import json
import runpy
import sys

import pytest

from components.doctor import examination
from components.doctor.finding import attention, broken, fine


@pytest.fixture
def doctor(tmp_path, monkeypatch, capsys):
    (tmp_path / "params.yaml").touch()
    monkeypatch.chdir(tmp_path)

    def run(*findings, options=()):
        monkeypatch.setattr(examination, "examine", lambda: iter(findings))
        monkeypatch.setattr(sys, "argv", ["virtex doctor", *options])
        with pytest.raises(SystemExit) as caught:
            runpy.run_module("components.commands.doctor", run_name="__main__")
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
