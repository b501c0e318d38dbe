"""``virtex preset``."""

from components.params import matching_presets
from components.params.yaml_files import load_yaml
from pipelines import cli


def test_presets(small_workspace, capsys):
    assert cli.main(["preset", "list"]) == 0
    assert capsys.readouterr().out == "  tiny  Smaller\n"
    assert cli.main(["preset", "apply", "tiny"]) == 0
    assert capsys.readouterr().out == "tokenize.vocab_size: 200 -> 123\n"
    assert "vocab_size: 123 " in (small_workspace / "params.yaml").read_text()
    assert cli.main(["preset", "list"]) == 0
    assert capsys.readouterr().out == "* tiny  Smaller\n"
    assert matching_presets() == ["tiny"]


def test_show_is_the_preset_and_what_it_changes(small_workspace, capsys):
    assert cli.main(["preset", "show", "tiny"]) == 0
    output = capsys.readouterr().out
    assert output.startswith("# Smaller.")
    assert output.endswith("#   tokenize.vocab_size: 200 -> 123\n")
    (small_workspace / "presets" / "shown.yaml").write_text(output)
    assert load_yaml(small_workspace / "presets" / "shown.yaml") == {"tokenize": {"vocab_size": 123}}


def test_a_dry_run_writes_nothing(small_workspace, capsys):
    before = (small_workspace / "params.yaml").read_bytes()
    assert cli.main(["preset", "apply", "--dry-run", "tiny"]) == 0
    assert capsys.readouterr().out.startswith("tokenize.vocab_size: 200 -> 123\n")
    assert (small_workspace / "params.yaml").read_bytes() == before
    assert not (small_workspace / ".virtex").exists()


def test_only_values_change(small_workspace, capsys):
    """Comments, order and blank lines of params.yaml stay, and undoing a preset gives the file back."""
    before = (small_workspace / "params.yaml").read_text()
    (small_workspace / "presets" / "undo.yaml").write_text("tokenize:\n  vocab_size: 200\n")
    cli.main(["preset", "apply", "tiny"])
    after = (small_workspace / "params.yaml").read_text()
    changed = [
        pair for pair in zip(before.splitlines(), after.splitlines(), strict=True) if pair[0] != pair[1]
    ]
    assert len(changed) == 1
    assert changed[0][1] == changed[0][0].replace("200", "123")
    cli.main(["preset", "apply", "undo"])
    assert (small_workspace / "params.yaml").read_text() == before


def test_unknown_names_have_a_nearest(small_workspace, capsys):
    for command in (["show"], ["apply"], ["apply", "--dry-run"]):
        assert cli.main(["preset", *command, "tiyn"]) == 2
        assert "did you mean `tiny`" in capsys.readouterr().err
    cli.main(["preset", "apply", "tiny"])
    capsys.readouterr()
    assert cli.main(["preset", "apply", "tiny"]) == 0
    assert capsys.readouterr().out == "none: params.yaml has these values already\n"
