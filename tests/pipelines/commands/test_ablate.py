"""``virtex ablate`` up to the flow."""

import pytest

from pipelines import cli


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
