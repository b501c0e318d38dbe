"""``virtex report``."""

from pipelines import cli


def test_report(small_workspace, capsys):
    (small_workspace / "outputs" / "report").mkdir(parents=True)
    (small_workspace / "outputs" / "report" / "report.md").write_text("| a |\n")
    assert cli.main(["report"]) == 0
    assert "| a |" in capsys.readouterr().out
