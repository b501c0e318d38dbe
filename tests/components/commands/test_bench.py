"""``virtex bench`` on its quick sizes."""

import json
from pathlib import Path

import pytest

from components.commands.bench import main


def test_prints_a_table_and_writes_every_round(tmp_path: Path, capsys) -> None:
    assert main(["decode", "--quick", "--rounds", "2", "--output", str(tmp_path)]) == 0
    assert "| beam search 3" in capsys.readouterr().out
    written = json.loads((tmp_path / "decode.json").read_text())
    assert written["quick"]
    assert len(written["comparisons"][0]["ours"]["wall"]) == 2


@pytest.mark.parametrize("arguments", [["nothing"], ["decode", "--rounds", "0"]])
def test_refuses_what_it_does_not_know(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
