from pathlib import Path

import pytest
from ruamel.yaml import YAML

from components.bench.pipeline import QUICK, SERVERS, _run, hollow_repository, run
from components.core.errors import InputError

REPOSITORY = Path(__file__).resolve().parents[3]


def test_hollow_stages_make_their_outputs_and_nothing_else(tmp_path: Path) -> None:
    hollow_repository(REPOSITORY, tmp_path, None)
    text = (tmp_path / "dvc.yaml").read_text(encoding="utf-8")
    assert "python -m" not in text
    assert "install -D /dev/null data/datasets/manifest.json" in text
    assert "install -D /dev/null data/lmdb/${item.split}.lmdb" in text


def test_a_hollow_stage_finds_what_no_stage_makes(tmp_path: Path) -> None:
    hollow_repository(REPOSITORY, tmp_path, None)
    stages = YAML(typ="safe").load(tmp_path / "dvc.yaml")["stages"].values()
    needed = {path for stage in stages for path in stage.get("do", stage)["deps"]}
    given = {path for path in needed if not path.startswith(("data/", "outputs/"))}
    assert "datasets/archives" in given
    assert [path for path in given if not (tmp_path / path).exists()] == []


def test_a_hollow_run_leaves_no_record_on_the_users_servers(tmp_path: Path, monkeypatch) -> None:
    for name in SERVERS:
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    (tmp_path / "asks.py").write_text(f"import os; assert not {set(SERVERS)!r} & os.environ.keys()")
    _run(tmp_path, ["asks"])


def test_needs_a_pipeline(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"dvc\.yaml"):
        run(QUICK, rounds=1)


@pytest.mark.integration
@pytest.mark.slow  # a Prefect server of its own, twice
def test_quick_run(monkeypatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    everything, nothing = run(QUICK, rounds=1)
    assert "the flow adds" in everything.figures
    assert nothing.baseline.wall[0] < everything.ours.wall[0]
