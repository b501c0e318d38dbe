"""``virtex report``."""

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


def test_nothing_to_report(small_workspace, capsys):
    assert cli.main(["report"]) != 0
    assert "run `virtex run` first" in capsys.readouterr().err
