"""``virtex report``."""

import json

from pipelines import cli


def test_report(small_workspace, capsys):
    (small_workspace / "outputs" / "report").mkdir(parents=True)
    (small_workspace / "outputs" / "report" / "report.md").write_text("| a |\n")
    assert cli.main(["report"]) == 0
    assert "| a |" in capsys.readouterr().out


def test_the_page_is_named(small_workspace, capsys):
    folder = small_workspace / "outputs" / "report"
    folder.mkdir(parents=True)
    for name in ("report.md", "report.html"):
        (folder / name).write_text("| a |\n")
    assert cli.main(["report"]) == 0
    assert f"Page: {folder / 'report.html'}" in capsys.readouterr().out


def test_json_is_the_figures(small_workspace, capsys):
    folder = small_workspace / "outputs" / "report"
    folder.mkdir(parents=True)
    (folder / "report.md").write_text("| a |\n")
    assert cli.main(["report", "--json"]) == 2
    assert "virtex run report" in capsys.readouterr().err
    (folder / "metrics.json").write_text('{"voc07.mAP": 21.5}')
    assert cli.main(["report", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"voc07.mAP": 21.5}


def test_nothing_to_report(small_workspace, capsys):
    assert cli.main(["report"]) != 0
    assert "run `virtex run` first" in capsys.readouterr().err
