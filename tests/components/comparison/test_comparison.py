"""A comparison made from workspaces on disk, through the module's own entry point."""

import csv
import json
import shutil
from pathlib import Path

import matplotlib.image
import pytest

from components.comparison.__main__ import main
from components.comparison.table import COLUMN_TITLES
from components.core.paths import stage_dir
from components.core.published import BENCHMARKS
from components.params import overlay

REPOSITORY = Path(__file__).resolve().parents[3]
GOOD = dict.fromkeys(("pretrain", "caption", "voc07@virtex", "voc07@random"), "ran")


def make_row(folder: Path, name: str, override: str, voc07: float, **more) -> dict:
    """A workspace with the results of a run."""
    workspace = folder / name
    workspace.mkdir()
    shutil.copy(REPOSITORY / "params.yaml", workspace)
    overlay(None, [override], workspace / "params.yaml")
    results = {
        "benchmarks/voc07/virtex": {"mAP": voc07, "num_test": 80},
        "benchmarks/voc07/random": {"mAP": 15.0, "num_test": 80},
        "caption": {"CIDEr-D": 42.0},
        "pretrain": {"val_loss": 2.5, "num_parameters": 1234, "images_per_second": 9.5, "seconds": 61},
    }
    for stage, metrics in results.items():
        path = workspace / "outputs" / stage / "metrics.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(metrics))
    row = {"name": name, "row": name, "seed": 0, "title": name.title(), "workspace": str(workspace)}
    return row | {"published": None, "state": "ran", "message": "", "stages": GOOD} | more


def compare(folder: Path, rows: list[dict], paper_base: str | None = None) -> tuple[dict, str]:
    request = {"family": "tasks", "title": "tasks", "base": "demo", "paper_base": paper_base, "rows": rows}
    request["noise"] = str(folder / "seeds.json")
    (folder / "rows.json").write_text(json.dumps(request))
    main(folder / "rows.json", folder)
    return json.loads((folder / "comparison.json").read_text()), (folder / "comparison.md").read_text()


@pytest.fixture
def rows(tmp_path):
    failed = {"state": "failed", "message": "pretrain: error:\nthe loss is not a number"}
    stages = {
        "pretrain": "failed",
        "voc07@random": "unchanged",
    }  # the files of the run before still lie there
    return [
        make_row(
            tmp_path,
            "bicaptioning",
            "objective.name=bicaptioning",
            20.5,
            published="captioning, resnet50, L1 H2048",
        ),
        make_row(tmp_path, "wide", "backbone.name=resnet34", 19.0),
        make_row(tmp_path, "broken", "objective.name=masked_lm", 33.3, stages=stages, **failed),
    ]


def test_figures_gains_and_what_is_missing(tmp_path, rows):
    made, text = compare(tmp_path, rows, "coco/x")
    good, other, broken = made["rows"]
    assert good["figures"] == {"voc07.mAP": 20.5, "caption.CIDEr-D": 42.0}
    assert good["gains"] == {"voc07.mAP": 5.5}
    assert good["pretraining"]["num_parameters"] == 1234
    assert good["published"] == {"voc07.mAP": 88.6, "imagenet_linear.top1": 50.8}
    assert {"objective", "backbone", "hidden_size", "captions"} <= set(good["differences"])
    assert other["published"] == {}
    assert (broken["figures"], broken["gains"]) == ({}, {})
    assert broken["pretraining"]["val_loss"] is None
    assert "33.3" not in text
    assert {(one["name"], one["backbone"]) for one in made["baselines"]} == {
        ("random", "resnet18"),
        ("random", "resnet34"),
    }


def test_table(tmp_path, rows):
    _, text = compare(tmp_path, rows, "coco/x")
    lines = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("|")]
    cells = {line[0].strip(): [cell.strip() for cell in line[1:]] for line in lines[2:7]}
    assert cells["Bicaptioning"] == ["20.5", "+5.5", "42.0", "88.6", "50.8"]
    assert cells["Wide"] == ["19.0", "+4.0", "42.0", "–", "–"]
    assert cells["Broken"] == ["failed", "–", "–", "–", "–"]
    assert cells["Random, resnet18"] == ["15.0", "–", "–", "–", "–"]
    assert "Not comparable in scale" in text
    assert "preset coco/x" in " ".join(text.split())
    assert "- Broken, failed: pretrain: error:\n  the loss is not a number" in text
    assert all(len(line) <= 80 for line in text.splitlines() if not line.startswith("|"))


def test_files_for_programs_and_people(tmp_path, rows):
    compare(tmp_path, rows)
    first, second, third, *_ = csv.DictReader((tmp_path / "comparison.csv").open())
    assert (first["row"], first["voc07.mAP"], first["gain voc07.mAP"]) == ("bicaptioning", "20.5", "5.5")
    assert (second["paper voc07.mAP"], third["voc07.mAP"]) == ("", "")
    picture = matplotlib.image.imread(tmp_path / "comparison.png")
    assert picture.shape[1] == 2100


def test_every_benchmark_has_its_column(tmp_path, rows):
    (row, *_) = rows
    stages = {benchmark.stage("virtex") for benchmark in BENCHMARKS}
    overlay(None, ["benchmarks.detection_backbones=[virtex]"], Path(row["workspace"], "params.yaml"))
    for number, benchmark in enumerate(BENCHMARKS):
        folder = stage_dir(benchmark.name, "virtex" if benchmark.compares_backbones else None)
        path = Path(row["workspace"], folder, "metrics.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        known = json.loads(path.read_text()) if path.exists() else {}
        group, _, name = benchmark.metric.rpartition(".")
        (known.setdefault(group, {}) if group else known)[name] = 1.0 + number
        path.write_text(json.dumps(known))
    made, text = compare(tmp_path, [row | {"stages": dict.fromkeys(stages, "ran")}])
    expected = {benchmark.key: 1.0 + number for number, benchmark in enumerate(BENCHMARKS)}
    assert made["rows"][0]["figures"] == expected
    header = next(line for line in text.splitlines() if line.startswith("|"))
    titles = [title.strip() for title in header.split("|")]
    headlines = {benchmark.key for benchmark in BENCHMARKS if benchmark.is_headline}
    assert headlines == COLUMN_TITLES.keys()
    assert all(titles.count(title) == 1 for title in COLUMN_TITLES.values())
    assert "Best LR is the best learning rate of several" in " ".join(text.split())
    assert (tmp_path / "comparison.png").is_file()


def test_rows_that_all_failed(tmp_path, rows):
    made, text = compare(tmp_path, rows[2:])
    assert made["rows"][0]["figures"] == {}
    assert "The paper has no such rows." in text


def note_protocol(row: dict, backbone: str, version: int = 1, **settings) -> None:
    path = Path(row["workspace"], stage_dir("voc07", backbone), "metrics.json")
    protocol = {"name": "SVMs", "version": version, "settings": {"crop_size": 48, **settings}}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"protocol": protocol}))


def test_figures_of_another_protocol_are_marked_and_not_subtracted(tmp_path):
    names = ("first", "seeded", "newer", "larger")
    rows = [make_row(tmp_path, name, "objective.name=bicaptioning", 20.0 + len(name)) for name in names]
    for row, version, settings in zip(
        rows, (1, 1, 2, 1), ({}, {"seed": 5}, {}, {"crop_size": 96}), strict=True
    ):
        note_protocol(row, "virtex", version, **settings)
        note_protocol(row, "random", 1)
    made, text = compare(tmp_path, rows)
    assert [row["other_protocol"] for row in made["rows"]] == [[], [], ["voc07.mAP"], ["voc07.mAP"]]
    assert [row["gains"].get("voc07.mAP") for row in made["rows"]] == [10.0, 11.0, None, None]
    assert ["voc07.mAP" in row["above_first"] for row in made["rows"]] == [False, True, False, False]
    assert "| Newer            | 25.0† |     – |" in text
    assert "| Seeded           |  26.0 | +11.0 |" in text
    words = " ".join(text.split())
    assert (
        "† marks a figure measured by another version of the protocol, or with other settings than" in words
    )
    lines = {
        line["row"]: line["other protocol"] for line in csv.DictReader((tmp_path / "comparison.csv").open())
    }
    assert (lines["first"], lines["newer"], lines["random resnet18"]) == ("", "voc07.mAP", "")
    note_protocol(rows[0], "random", 2)
    made, text = compare(tmp_path, rows[:1])
    assert (made["rows"][0]["gains"], made["baselines"][0]["other_protocol"]) == ({}, ["voc07.mAP"])
    assert "15.0†" in text


def test_a_column_of_one_protocol_has_no_mark(tmp_path, rows):
    made, text = compare(tmp_path, rows)
    assert "†" not in text
    assert not any(row["other_protocol"] for row in made["rows"])


def seeded(folder: Path, name: str, override: str, figures: list[float], **more) -> list[dict]:
    """Runs of a row with a seed each; VOC07 of the random backbone is 15."""
    rows = []
    for seed, figure in enumerate(figures):
        row = make_row(folder, f"{name}-seed{seed}" if seed else name, override, figure, **more)
        overlay(None, [f"pretrain.seed={seed}"], Path(row["workspace"], "params.yaml"))
        rows.append(row | {"row": name, "seed": seed, "title": name.title()})
    return rows


def test_seeds_are_summed_up_row_by_row(tmp_path):
    rows = seeded(tmp_path, "narrow", "textual_head.hidden_size=64", [20.0, 21.0, 22.0])
    rows += seeded(tmp_path, "wide", "textual_head.hidden_size=128", [22.0, 22.5, 24.5])
    made, text = compare(tmp_path, rows)
    narrow, wide = made["rows"]
    assert narrow["figures"]["voc07.mAP"] == 21.0
    assert narrow["seeds"]["voc07.mAP"] == {"0": 20.0, "1": 21.0, "2": 22.0}
    assert narrow["standard_errors"]["voc07.mAP"] == pytest.approx(1 / 3**0.5)
    # Student's t of two degrees of freedom, 97.5 %, is 4.3027.
    assert narrow["gain_intervals"]["voc07.mAP"] == pytest.approx(
        [6 - 4.3027 / 3**0.5, 6 + 4.3027 / 3**0.5], 1e-4
    )
    assert narrow["above_first"] == {}
    # Seed by seed 2.0, 1.5 and 2.5: standard error 0.5 / sqrt(3).
    above = wide["above_first"]["voc07.mAP"]
    assert above["mean"] == 2.0
    assert above["interval"] == pytest.approx([2 - 4.3027 * 0.5 / 3**0.5, 2 + 4.3027 * 0.5 / 3**0.5], 1e-4)
    assert "22.0 22.5 24.5" in text
    assert "21.0 ± 0.6" in text
    assert "+2.0 (+0.8 to +3.2)" in text
    assert "no difference" in text  # of the captions, which are the same
    lines = list(csv.DictReader((tmp_path / "comparison.csv").open()))
    assert [line["seeds"] for line in lines[:2]] == ["3", "3"]


def test_a_seed_that_failed_is_named_and_the_others_count(tmp_path):
    rows = seeded(tmp_path, "narrow", "textual_head.hidden_size=64", [20.0, 22.0])
    rows[1] |= {"state": "failed", "message": "pretrain: no memory", "stages": {"voc07@random": "ran"}}
    made, text = compare(tmp_path, rows)
    assert (made["rows"][0]["state"], made["rows"][0]["runs"]) == ("failed", {"0": "ran", "1": "failed"})
    assert made["rows"][0]["standard_errors"]["voc07.mAP"] is None
    assert "20.0 (1 of 2 seeds)" in text
    assert "- Narrow, seed 1, failed: pretrain: no memory" in text


def test_what_seeds_have_shown_of_the_same_run_is_said(tmp_path):
    compare(tmp_path, seeded(tmp_path, "run", "textual_head.hidden_size=64", [20.0, 21.0, 22.0]))
    (tmp_path / "comparison.json").rename(tmp_path / "seeds.json")
    same = make_row(tmp_path, "same", "textual_head.hidden_size=64", 20.0)
    other = make_row(tmp_path, "other", "textual_head.hidden_size=128", 20.0)
    # sqrt(2) * 4.3027 * a standard deviation of 1.0
    assert "two runs differ by up to 6.1 in VOC07" in " ".join(compare(tmp_path, [same, other])[1].split())
    assert "By chance" not in compare(tmp_path, [other])[1]
    note_protocol(same, "virtex", 2)  # the parameters are the same, what is done by them is not
    assert "6.1 in VOC07" not in " ".join(compare(tmp_path, [same, other])[1].split())
