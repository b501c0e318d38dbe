"""``virtex preset``."""

from pipelines import cli


def test_presets(small_workspace, capsys):
    assert cli.main(["preset", "list"]) == 0
    assert capsys.readouterr().out == "  tiny\n"
    assert cli.main(["preset", "show", "tiny"]) == 0
    assert capsys.readouterr().out.startswith("# Smaller.")
    assert cli.main(["preset", "apply", "tiny"]) == 0
    assert "-> 123" in capsys.readouterr().out
    assert "vocab_size: 123" in (small_workspace / "params.yaml").read_text()
    assert cli.main(["preset", "list"]) == 0
    assert capsys.readouterr().out == "* tiny\n"
