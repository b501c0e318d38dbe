"""``virtex report``."""

import json

from components.params import overlay
from components.params.families import digest_without_seeds
from components.params.yaml_files import load_yaml
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


def test_what_seeds_have_shown_is_told_of_the_same_parameters_alone(small_workspace, capsys):
    for folder in ("report", "ablations/seeds"):
        (small_workspace / "outputs" / folder).mkdir(parents=True)
    (small_workspace / "outputs" / "report" / "report.md").write_text("| a |\n")
    row = {
        "digest": digest_without_seeds(load_yaml(small_workspace / "params.yaml")),
        "figures": {"voc07.mAP": 21.0, "caption.CIDEr-D": 40.0},
        "seeds": {"voc07.mAP": {"0": 20.0, "1": 22.0}, "caption.CIDEr-D": {"0": 40.0}},
        "standard_errors": {"voc07.mAP": 1.0, "caption.CIDEr-D": None},
        "gains": {"voc07.mAP": 6.0},
        "gain_intervals": {"voc07.mAP": [-6.7, 18.7]},
    }
    made = small_workspace / "outputs" / "ablations" / "seeds" / "comparison.json"
    made.write_text(json.dumps({"rows": [row]}))
    overlay(None, ["pretrain.seed=1"], small_workspace / "params.yaml")
    assert cli.main(["report"]) == 0
    text = capsys.readouterr().out
    assert "- VOC07 mAP: 21.0 ± 1.0, gain +6.0 (-6.7 to +18.7), 2 seeds" in text
    assert "CIDEr" not in text
    overlay(None, ["pretrain.batch_size=2"], small_workspace / "params.yaml")
    assert cli.main(["report"]) == 0
    assert "±" not in capsys.readouterr().out
