"""``virtex ablate`` up to the flow."""

from pathlib import Path

import pytest

from components.params.families import chosen_family
from pipelines import cli
from pipelines.commands.ablate import renew_report
from pipelines.experiments import FamilyRun
from pipelines.process import Stop


def test_help_names_every_row_and_the_papers_base(capsys):
    with pytest.raises(SystemExit):
        cli.main(["ablate", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "tasks: bicaptioning, captioning, token_classification" in text
    assert "--preset coco/bicaptioning_R_50_L1_H1024" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tasks", "--rows", "captoning"], "did you mean `captioning`?"),
        (["tasks", "--preset", "tyni"], "unknown preset `tyni`"),
        (["tasks", "--set", "objective.nmae=x"], "unknown key `objective.nmae`"),
    ],
)
def test_bad_input_is_told_before_anything_runs(small_workspace, monkeypatch, capsys, arguments, message):
    monkeypatch.setattr("pipelines.experiments.bring_up_to_date", copy_params)
    monkeypatch.setattr("pipelines.commands.ablate._run_flow", lambda *_: pytest.fail("the flow was started"))
    before = (small_workspace / "params.yaml").read_text()
    assert cli.main(["ablate", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert (small_workspace / "params.yaml").read_text() == before
    assert not (small_workspace / "outputs").exists()


def copy_params(root, workspace):
    for name in ("params.yaml", "presets/tiny.yaml"):
        (workspace / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace / name).write_text((root / name).read_text())


REPORT_STAGE = """
stages:
  report:
    cmd: mkdir -p outputs/report && cat seeds.txt > outputs/report/report.md
    deps: [figures.txt]
    outs: [outputs/report/report.md]
"""


def test_seeds_renew_a_report_that_is_up_to_date_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from dvc.repo import Repo

    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text(REPORT_STAGE)
    (tmp_path / "figures.txt").write_text("20.4")
    (tmp_path / "seeds.txt").write_text("unknown")
    Repo.init(str(tmp_path), no_scm=True).close()
    with Repo(str(tmp_path)) as repo:
        repo.reproduce()
    report = tmp_path / "outputs" / "report" / "report.md"

    def renewed(family: str, seeds: str) -> str:
        (tmp_path / "seeds.txt").write_text(seeds)
        rows = chosen_family(family, [], None)
        renew_report(FamilyRun(tmp_path, rows, None, [], [], 1), Stop())
        return report.read_text()

    assert renewed("tasks", "20.4") == "unknown"
    assert renewed("seeds", "20.4 ± 0.3") == "20.4 ± 0.3"
    assert "Also in the report: outputs/report/report.md" in capsys.readouterr().out
    (tmp_path / "figures.txt").write_text("21.0")  # the next run makes the report anyway
    assert renewed("seeds", "21.0 ± 0.2") == "20.4 ± 0.3"
    report.unlink()
    renew_report(FamilyRun(tmp_path, chosen_family("seeds", [], None), None, [], [], 1), Stop())
    assert not report.exists()
