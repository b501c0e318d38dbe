import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import FigureBase
from PIL import Image

from components import params
from components.core import paths
from components.core.published import MODELS
from components.params import overlay
from components.params.families import digest_without_seeds
from components.params.yaml_files import load_yaml
from components.report.contents import SEEDS_COMPARISON
from components.stages import report as stage
from components.tracking import StageRun

REPOSITORY = Path(__file__).resolve().parents[3]
CLASSES = {"cube": (81.0, 35.5), "ball <&|>": (62.25, 60.0), "cone": (40.0, 44.0)}


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def write_results(**others: float) -> None:
    """Made-up results of every stage the report reads, and mAP by the name of more backbones."""
    write_json(
        paths.stage_dir("pretrain") / "metrics.json",
        {
            "train_loss": 3.2, "val_loss": 2.75, "perplexity": 3.95, "images_seen": 38400, "seconds": 372.4,
            "images_per_second": 103.1, "iterations": 600, "images": 4000, "captions": 20000,
        },
    )  # fmt: skip
    curve = "iteration,loss,captioning_forward\n20,9.5,4\n40,6.5,3\n600,3.2,1.5\n"
    (paths.stage_dir("pretrain") / "train.csv").write_text(curve)
    (paths.stage_dir("pretrain") / "val.csv").write_text("iteration,loss\n0,10.5\n300,4.5\n600,2.75\n")
    for column, backbone in enumerate(("virtex", "random", *others)):
        aps = {name: (*pair, *others.values())[column] for name, pair in CLASSES.items()}
        folder = paths.stage_dir("voc07", backbone)
        write_json(folder / "metrics.json", {"mAP": sum(aps.values()) / len(aps), "num_test": 600})
        rows = "".join(f'"{name}",{ap},0.1,9,9,600\n' for name, ap in aps.items())
        (folder / "ap.csv").write_text("class,ap,cost,positives,test_positives,test_images\n" + rows)
    write_json(paths.stage_dir("caption") / "metrics.json", {"CIDEr-D": 71.23, "images": 200})
    choice = {"iteration": 450, "criterion": "VOC07 mAP, test", "mAP": 61.1, "trainval_mAP": 59.9}
    write_json(paths.stage_dir("select") / "metrics.json", choice)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StageRun:
    monkeypatch.chdir(tmp_path)
    paths.REPORT_DIR.mkdir(parents=True)
    return StageRun("report", None, paths.REPORT_DIR, None)


def make_report(
    run: StageRun,
    *others: str,
    objective: params.Objective | None = None,
    detection_backbones: tuple[str, ...] = ("virtex", "random"),
    download: params.Download | None = None,
) -> tuple[str, dict[str, Any], dict[str, float]]:
    sections = [params.read_section(section, REPOSITORY / paths.PARAMS) for section in stage.SECTIONS]
    changed: dict[type, params.Section] = {
        params.Benchmarks: params.Benchmarks(
            backbones=["virtex", "random", *others],
            detection_backbones=list(detection_backbones),
            detection_memory_heavy=True,
        )
    }
    if objective is not None:
        changed[params.Objective] = objective
    if download is not None:
        changed[params.Download] = download
    stage.main(run, *(changed.get(type(section), section) for section in sections))
    text = (run.output_dir / "report.md").read_text(encoding="utf-8")
    with Image.open(run.output_dir / "report.png") as picture:
        assert picture.width == 2100
    values = [
        json.loads((run.output_dir / name).read_text(encoding="utf-8"))
        for name in ("report.json", "metrics.json")
    ]
    assert max(len(line) for line in text.splitlines()) <= 80 + 11 * len(others)
    return text, values[0], values[1]


def rows_of(text: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line[2:-2].split(" | ")] for line in text.splitlines() if line[:2] == "| "
    ]


def test_this_run_beside_random_and_published(run: StageRun, capsys: pytest.CaptureFixture[str]) -> None:
    write_results()
    text, report, figures = make_report(run)
    assert "beats the random one on VOC07: 61.1 against 46.5 mAP (+14.6)" in " ".join(text.split())
    assert ["VOC07 mAP", "61.1", "46.5", "+14.6", "88.7", "-27.6", "–"] in rows_of(text)
    assert ["CIDEr-D", "71.2", "94.0", "-22.8"] in rows_of(text)
    assert ["ImageNet top-1", "not run", "not run", "–", "53.8", "–", "76.1"] in rows_of(text)
    assert ["cone", "40.0", "44.0", "-4.0"] in rows_of(text)
    assert ["Time", "6:12"] in rows_of(text)
    assert ["Checkpoint chosen (VOC07 mAP, test)", "450"] in rows_of(text)
    assert ["Its VOC07 mAP, cross-validated on trainval", "59.9"] in rows_of(text)
    assert ["Its VOC07 mAP on test", "61.1"] in rows_of(text)
    assert report["choice"]["iteration"] == 450
    assert "## Missing" not in text
    assert figures == pytest.approx(
        {"voc07.mAP": 61.0833, "voc07.mAP_gain": 14.5833, "caption.CIDEr-D": 71.23, "voc07.mAP_random": 46.5},
        abs=1e-3,
    )
    assert report["voc07_class_ap"]["virtex"]["cube"] == 81.0
    assert report["results"][0]["differences"]["random"]["value"] == pytest.approx(14.5833, abs=1e-3)
    assert capsys.readouterr().out == "report: outputs/report/report.html\n"


def test_what_seeds_have_shown_stands_in_both_forms_while_the_parameters_are_theirs(run: StageRun) -> None:
    write_results()
    shutil.copy(REPOSITORY / paths.PARAMS, paths.PARAMS)
    row = {
        "digest": digest_without_seeds(load_yaml(paths.PARAMS)),
        "seeds": {"voc07.mAP": {"0": 61.0, "1": 63.0}, "imagenet_linear.top1": {"0": 9.0, "1": 11.0},
                  "caption.CIDEr-D": {"0": 70.0, "1": 72.0}, "inaturalist.top1": {"0": 3.0}},
        "figures": {"voc07.mAP": 62.0, "imagenet_linear.top1": 10.0, "caption.CIDEr-D": 71.0},
        "standard_errors": {"voc07.mAP": 1.0, "imagenet_linear.top1": 1.0, "caption.CIDEr-D": 1.0},
        "gains": {"voc07.mAP": 15.5, "imagenet_linear.top1": 0.5},
        "gain_intervals": {"voc07.mAP": [2.8, 28.2], "imagenet_linear.top1": [-12.2, 13.2]},
        "protocols": {"voc07.mAP": ["", ""], "imagenet_linear.top1": [""], "caption.CIDEr-D": ["older"]},
    }  # fmt: skip
    write_json(SEEDS_COMPARISON, {"rows": [row]})
    text, report, _ = make_report(run)
    assert ["VOC07 mAP", "2", "62.0 ± 1.0", "+15.5", "+2.8, +28.2"] in rows_of(text)
    assert ["ImageNet top-1", "2", "10.0 ± 1.0", "+0.5≈", "-12.2, +13.2"] in rows_of(text)
    assert ["CIDEr-D", "2", "71.0 ± 1.0†", "–", "–"] in rows_of(text)
    assert len(report["seeds"]) == 3
    page = (run.output_dir / "report.html").read_text()
    assert re.search(r'data-json="/seeds/0/mean"[^>]*>62\.0</span> ± <span', page)
    assert '<td class="text">no difference</td>' in page
    overlay(None, ["optimizer.head_lr=0.5"], paths.PARAMS, REPOSITORY / "presets")
    text, report, _ = make_report(run)
    assert (report["seeds"], "Over seeds" in text) == ([], False)


@pytest.mark.parametrize(("share", "is_warned"), [(7.5, False), (96.0, True)])
def test_how_many_captions_differ_stands_beside_their_scores(
    run: StageRun, share: float, is_warned: bool
) -> None:
    write_results()
    scores = {"CIDEr-D": 71.23, "images": 1200, "distinct_captions": 1068, "most_frequent_share": share}
    write_json(paths.stage_dir("caption") / "metrics.json", scores)
    text, _, _ = make_report(run)
    words = " ".join(text.split())
    assert (
        f"1,068 different captions of 1,200 images; {share} % of these have the most frequent one." in words
    )
    assert ("96 % of the images get the same caption" in words) == is_warned
    page = re.sub(r"<[^>]+>", "", (run.output_dir / "report.html").read_text())
    assert "1,068 different captions of 1,200" in page


TASKS = {
    "captioning": ({"captioning_forward": 2.75}, "captions", True),
    "masked_lm": ({"masked_lm": 2.75}, "captions", True),
    "token_classification": ({"classification": 2.75}, "captions", False),
    "multilabel_classification": ({"classification": 2.75}, "object labels", False),
    "parallel_captioning": ({"captioning_parallel": 2.75}, "captions", True),
    "idf_token_classification": ({"classification": 2.75}, "captions", False),
    "contrastive": ({"contrastive": 2.75}, "captions", True),
}


@pytest.mark.parametrize("objective", TASKS)
def test_every_task_is_reported_in_its_own_words(run: StageRun, objective: str) -> None:
    write_results()
    parts, taught_by, has_transformer = TASKS[objective]
    path = paths.stage_dir("pretrain") / "metrics.json"
    metrics = json.loads(path.read_text()) | {"val": parts}
    has_perplexity = objective in ("captioning", "masked_lm")
    if not has_perplexity:
        del metrics["perplexity"]
    write_json(path, metrics)
    if objective != "captioning":
        write_json(paths.stage_dir("caption") / "metrics.json", {"images": 0, "not_run": "none written"})
    text, report, _ = make_report(run, objective=params.Objective(name=objective))
    flat = " ".join(text.split())
    assert f"pretrained on {taught_by} beats the random one" in flat
    assert f"## Pretraining: {objective}" in text
    assert "Validation, " not in text
    assert ("Validation perplexity" in text) == has_perplexity
    assert ("hidden_size" in report["setup"]) == ("Width of the textual head" in text) == has_transformer
    shown = objective.replace("_classification", " classif.")
    is_the_papers = objective in {model.setup.objective for model in MODELS}
    theirs = shown if is_the_papers else "bicaptioning"  # the paper's best, to show what it reaches
    assert any(row[:3] == ["Pretraining task", shown, theirs] for row in rows_of(text))
    assert report["published"]["model"].startswith(f"{objective if is_the_papers else theirs}, resnet50")


def test_both_directions_are_listed(run: StageRun) -> None:
    write_results()
    path = paths.stage_dir("pretrain") / "metrics.json"
    parts = {"captioning_forward": 1.5, "captioning_backward": 1.25}
    write_json(path, json.loads(path.read_text()) | {"val": parts})
    text, _, _ = make_report(run)
    assert ["Validation, captioning forward", "1.500"] in rows_of(text)
    assert ["Validation, captioning backward", "1.250"] in rows_of(text)


def test_more_backbones_have_columns_of_their_own(run: StageRun) -> None:
    write_results(imagenet=70.0, authors=80.0)
    text, report, figures = make_report(run, "imagenet", "authors")
    header = ["Benchmark", "VirTex", "Random", "ImageNet", "authors", "Gain", "Paper", "Diff", "IN-sup"]
    assert header in rows_of(text)
    assert ["VOC07 mAP", "61.1", "46.5", "70.0", "80.0", "+14.6", "88.7", "-27.6", "–"] in rows_of(text)
    assert ["cone", "40.0", "44.0", "70.0", "80.0", "-4.0"] in rows_of(text)
    assert "Where ImageNet and authors came from: see baseline.sources" in " ".join(text.split())
    assert report["results"][0]["figures"]["authors"]["value"] == 80.0
    assert report["results"][0]["differences"]["authors"]["value"] == pytest.approx(-18.9167, abs=1e-3)
    assert figures["voc07.mAP_imagenet"] == 70.0


def test_says_what_makes_it_not_comparable(run: StageRun) -> None:
    write_results()
    text, report, _ = make_report(run)
    assert "Not comparable with the paper's figures" in text
    assert not report["comparable"]
    assert report["setup"]["captioned_images"] == {"this_run": 4000, "published": 118_287}
    assert ["Captioned datasets", "drawn world", "COCO Captions", "differs"] in rows_of(text)
    assert ["Pretraining task", "bicaptioning", "bicaptioning", ""] in rows_of(text)


def test_nothing_has_run(run: StageRun) -> None:
    text, report, figures = make_report(run)
    assert figures == {}
    assert "is not known" in text
    assert "- outputs/benchmarks/voc07/random/ap.csv is missing" in text
    assert all(of["value"] is None for row in report["results"] for of in row["figures"].values())


def test_without_voc2007_both_ways_in_report_the_same(run: StageRun) -> None:
    """`virtex run` starts no process for the benchmark, under `dvc repro` it writes an empty result."""
    write_results()
    for backbone in ("virtex", "random"):
        shutil.rmtree(paths.stage_dir("voc07", backbone))
    section = params.read_section(params.Download, REPOSITORY / paths.PARAMS)
    nothing = {"voc_trainval_images": 0, "voc_test_images": 0}
    world = section.drawn_world.model_copy(update=nothing)
    without = section.model_copy(update={"drawn_world": world})
    by_virtex, *_ = make_report(run, download=without)
    flat = " ".join(by_virtex.split())
    assert "of VirTex and Random: not run: this run has no `voc2007` data" in flat
    assert str(paths.stage_dir("voc07")) not in flat
    for backbone in ("virtex", "random"):
        folder = paths.stage_dir("voc07", backbone)
        write_json(folder / "metrics.json", {"not_run": "this run has no `voc2007` data"})
        (folder / "ap.csv").write_text("class,ap,cost,positives,test_positives,test_images\n")
    assert make_report(run, download=without)[0] == by_virtex


def test_one_backbone_is_missing(run: StageRun) -> None:
    write_results()
    for path in paths.stage_dir("voc07", "random").iterdir():
        path.unlink()
    text, _, figures = make_report(run)
    assert ["VOC07 mAP", "61.1", "not run", "–", "88.7", "-27.6", "–"] in rows_of(text)
    assert ["cube", "81.0", "–", "–"] in rows_of(text)
    assert "voc07.mAP_gain" not in figures


def test_broken_results_are_named_and_do_not_stop_it(run: StageRun) -> None:
    write_results()
    (paths.stage_dir("voc07", "random") / "metrics.json").write_text("{")
    (paths.stage_dir("voc07", "virtex") / "ap.csv").write_text("class,cost\ncube,1\n")
    (paths.stage_dir("pretrain") / "val.csv").write_text("iteration,loss\n1,high\n")
    write_json(paths.stage_dir("caption") / "metrics.json", {"images": 0, "not_run": "it writes no captions"})
    text, report, _ = make_report(run)
    assert ["VOC07 mAP", "61.1", "failed", "–", "88.7", "-27.6", "–"] in rows_of(text)
    flat = " ".join(text.split())
    assert "outputs/benchmarks/voc07/random/metrics.json cannot be read" in flat
    assert "Captioning: not run: it writes no captions" in flat
    assert "outputs/pretrain/val.csv cannot be read" in flat
    assert len(report["missing"]) == 2


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that are put on the picture."""
    words: list[str] = []
    text = FigureBase.text

    def recording(figure: FigureBase, x: float, y: float, words_drawn: str, **options: Any) -> Any:
        words.append(words_drawn)
        return text(figure, x, y, words_drawn, **options)

    monkeypatch.setattr(FigureBase, "text", recording)
    return words


def test_a_metric_that_was_left_out_says_why(run: StageRun, drawn: list[str]) -> None:
    scores = {"CIDEr-D": 12.0, "images": 3, "not_run": {"SPICE": "CoreNLP is not installed"}}
    write_json(paths.stage_dir("caption") / "metrics.json", scores)
    text, _, _ = make_report(run)
    assert ["CIDEr-D", "12.0", "94.0", "-82.0"] in rows_of(text)
    assert ["SPICE", "not run", "18.5", "–"] in rows_of(text)
    assert "Captioning (SPICE): not run: CoreNLP is not installed" in " ".join(text.split())
    assert "3 images" in drawn


def test_a_task_without_captions_is_said_on_the_picture(run: StageRun, drawn: list[str]) -> None:
    write_json(paths.stage_dir("caption") / "metrics.json", {"images": 0, "not_run": "it writes no captions"})
    make_report(run)
    assert "this task writes none" in drawn


def test_results_of_later_benchmarks_take_their_rows(run: StageRun) -> None:
    for backbone, value in (("virtex", 20.0), ("random", 5.0)):
        figures = {"top1": value, "best_top1": value + 2}
        write_json(paths.stage_dir("imagenet_linear", backbone) / "metrics.json", figures)
        reason = {"not_run": "this run has no `inaturalist` data"}
        write_json(paths.stage_dir("inaturalist", backbone) / "metrics.json", reason)
    text, _, _ = make_report(run)
    assert ["ImageNet top-1", "20.0", "5.0", "+15.0", "53.8", "-33.8", "76.1"] in rows_of(text)
    assert ["ImageNet top-1, best LR", "22.0", "7.0", "+15.0", "–", "–", "–"] in rows_of(text)
    assert ["iNaturalist top-1", "not run", "not run", "–", "–", "–"] in rows_of(text)
    flat = " ".join(text.split())
    assert (
        flat.count("iNaturalist 2018 of VirTex and Random: not run: this run has no `inaturalist` data") == 1
    )


def test_detection_takes_its_rows(run: StageRun) -> None:
    for backbone, ap in (("virtex", 12.5), ("random", 2.25)):
        figures = {"mask": {"AP": ap, "AP50": 2 * ap}, "box": {"AP": ap + 1}}
        write_json(paths.stage_dir("coco_segmentation", backbone) / "metrics.json", figures)
    text, report, figures = make_report(run)
    assert ["COCO mask AP", "12.5", "2.2", "+10.2", "36.9", "-24.4"] in rows_of(text)
    assert ["COCO box AP", "13.5", "3.2", "+10.2", "40.9", "-27.4"] in rows_of(text)
    assert ["COCO mask AP75", "failed", "failed", "–", "39.7", "–"] in rows_of(text)
    flat = " ".join(text.split())
    assert "(box AP75, mask AP75)" not in flat  # each is missing for a reason of its own
    assert "metrics.json has no mask.AP75" in flat
    assert figures["coco_segmentation.mask.AP"] == 12.5
    assert figures["coco_segmentation.mask.AP_gain"] == 10.25
    (mask,) = (one for one in report["results"] if one["row_title"] == "COCO mask AP")
    assert mask["published"]["value"] == 36.9
    assert mask["published_difference"]["value"] == pytest.approx(-24.4)


def test_what_nothing_could_be_measured_on_says_so_and_a_probe_left_out_is_no_problem(run: StageRun) -> None:
    empty = {"mask.APf": "no objects of this kind in the test images"}
    left_out = {"few_shot.imagenet_top1_5": "`probes.which` does not name few_shot"}
    for backbone in ("virtex", "random"):
        figures = {"mask": {"AP": 1.0, "APr": 1.0}, "not_run": empty}
        write_json(paths.stage_dir("lvis_segmentation", backbone) / "metrics.json", figures)
        knn = {"knn": {"voc07_mAP_20": 50.0}, "not_run": left_out}
        write_json(paths.stage_dir("probes", backbone) / "metrics.json", knn)
    _, report, _ = make_report(run)
    said = "\n".join(report["problems"])
    assert "not run: no objects of this kind" in said
    assert "mask APc" in said
    assert "does not name few_shot" not in said


def test_detection_that_nobody_asked_for(run: StageRun) -> None:
    text, report, _ = make_report(run, detection_backbones=())
    reason = "not run: benchmarks.detection_backbones names no backbone"
    assert f"VOC detection of VirTex: {reason}" in report["problems"]
    assert ["VOC box AP", "not run", "–", "–", "–", "–"] in rows_of(text)
    assert ["COCO mask AP75", "not run", "–", "–", "39.7", "–"] in rows_of(text)
    assert "VOC box AP50" not in text  # nothing is known of it


def test_a_baseline_for_detection_alone(run: StageRun) -> None:
    write_results()
    text, report, _ = make_report(run, detection_backbones=("virtex", "imagenet"))
    assert report["backbones"] == ["virtex", "random", "imagenet"]
    assert ["cone", "40.0", "44.0", "-4.0"] in rows_of(text)
    header = next(row for row in rows_of(text) if row[0] == "Class")
    assert header == ["Class", "VirTex", "Random", "Gain"]


def test_drawn_shapes_are_called_so(run: StageRun) -> None:
    write_results()
    layouts = {"images": {"val": 20}, "root": "data/datasets/x"}
    names = {"captions": {"coco": layouts}, "imagenet": layouts, "voc2007": layouts}
    write_json(paths.DATASETS_MANIFEST, {"source": "drawn_world", **names})
    text, report, _ = make_report(run)
    line = (
        "All data are the drawn world: shapes drawn by this project, in the layouts of "
        "COCO, VOC2007 and ImageNet."
    )
    assert line in " ".join(text.split())
    assert line in (run.output_dir / "report.html").read_text()
    assert report["results"][0]["title"] == "VOC07 linear SVMs, drawn world (VOC2007 layout)"
    assert report["dataset_titles"]["imagenet"] == "drawn world (ImageNet layout)"
