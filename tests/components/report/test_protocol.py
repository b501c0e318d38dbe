"""A figure is the paper's to compare with only where set-up, protocol and data are."""

import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from components import params
from components.benchmarks.shared.protocols import PROTOCOLS, Protocol
from components.core import paths
from components.params.presets import read_preset
from components.stages import report as stage
from components.tracking import StageRun

REPOSITORY = Path(__file__).resolve().parents[3]
BEST, RESNET101 = "coco/bicaptioning_R_50_L1_H2048", "coco/bicaptioning_R_101_L1_H1024"
ALIKE = [
    "voc07.mAP", "imagenet_linear.top1", "coco_segmentation.box.AP", "coco_segmentation.box.AP50",
    "coco_segmentation.box.AP75", "coco_segmentation.mask.AP", "coco_segmentation.mask.AP50",
    "coco_segmentation.mask.AP75",
]  # fmt: skip
OTHER_MODEL = "the paper's figure is of another model: bicaptioning, resnet101, L1 H1024"


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def write_results(num_classes: int = 1000) -> None:
    """Of the published numbers of images, for every benchmark."""
    boxes = {"AP": 40.0, "AP50": 60.0, "AP75": 44.0}
    results = {
        "pretrain": {"images": 118_287, "iterations": 500_000, "val_loss": 2.0},
        "caption": {"CIDEr-D": 80.0, "SPICE": 17.0, "images": 5000},
        "benchmarks/voc07/virtex": {"mAP": 88.0, "num_test": 4952},
        "benchmarks/imagenet_linear/virtex": {"top1": 53.0, "top5": 77.0, "num_classes": num_classes},
        "benchmarks/inaturalist/virtex": {"top1": 60.0, "num_classes": 8142},
        "benchmarks/coco_segmentation/virtex": {"box": boxes, "mask": boxes},
    }
    for folder, metrics in results.items():
        write_json(Path("outputs") / folder / "metrics.json", metrics)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StageRun:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "presets").symlink_to(REPOSITORY / "presets")
    paths.REPORT_DIR.mkdir(parents=True)
    return StageRun("report", None, paths.REPORT_DIR, None)


def make_report(run: StageRun, preset: str = BEST, **changes: dict[str, Any]) -> dict[str, Any]:
    yaml = YAML()
    tree = yaml.load(REPOSITORY / "params.yaml")
    for overlay in (read_preset(preset), changes):
        for section, values in overlay.items():
            tree[section].update(values)
    yaml.dump(tree, Path("params.yaml"))
    stage.main(run, *(params.read_section(section) for section in stage.SECTIONS))
    report: dict[str, Any] = json.loads((run.output_dir / "report.json").read_text())
    return report


def alike(report: dict[str, Any]) -> list[str]:
    return [f"{one['benchmark']}.{one['metric']}" for one in report["results"] if one["comparable"]]


def differences(report: dict[str, Any], key: str) -> list[str]:
    (found,) = (one for one in report["results"] if f"{one['benchmark']}.{one['metric']}" == key)
    return list(found["not_the_papers"])


def text_of(run: StageRun) -> str:
    return " ".join((run.output_dir / "report.md").read_text().split())


def test_the_papers_own_protocol(run: StageRun) -> None:
    write_results()
    report = make_report(run)
    assert alike(report) == ALIKE
    assert report["comparable"] is True
    assert report["pretraining_differences"] == []
    assert report["warnings"] == []
    assert "comparable with it: VOC07 mAP, ImageNet top-1" in text_of(run)
    assert "| VOC07 mAP | 88.0 |" in text_of(run)
    assert "88.7* |" in text_of(run)


def test_captioning_figures_are_the_resnet101s(run: StageRun) -> None:
    write_results()
    assert differences(make_report(run), "caption.CIDEr-D") == [OTHER_MODEL]
    assert f"CIDEr-D and SPICE ({OTHER_MODEL})" in text_of(run)
    report = make_report(run, RESNET101)
    assert "caption.CIDEr-D" in alike(report)
    (spice,) = (one for one in report["results"] if one["metric"] == "SPICE")
    assert spice["published_model"] == report["published"]["model"] == "bicaptioning, resnet101, L1 H1024"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optimizer": {"backbone_lr": 0.4}}, "optimizer.backbone_lr: 0.4, paper 0.2"),
        ({"optimizer": {"lookahead_steps": 0}}, "optimizer.lookahead_steps: 0, paper 5"),
        ({"schedule": {"iterations": 10, "warmup_iterations": 5}}, "iterations: 10, paper 500,000"),
        (
            {"augmentation": {"crop_scale": [0.6, 1.0]}},
            "augmentation.crop_scale: [0.6, 1.0], paper [0.2, 1.0]",
        ),
        ({"tokenize": {"vocab_size": 200}}, "tokenize.vocab_size: 200, paper 10,000"),
        ({"select": {"by": "last"}}, "select.by: last, paper voc07"),
    ],
)
def test_pretraining_of_another_kind_makes_no_figure_comparable(
    run: StageRun, changes: dict[str, dict[str, Any]], words: str
) -> None:
    write_results()
    report = make_report(run, **changes)
    assert alike(report) == []
    assert report["comparable"] is False
    assert words in report["pretraining_differences"]
    assert words in differences(report, "voc07.mAP")
    assert "**Not comparable with the paper's figures.**" in text_of(run)
    assert "*  |" not in text_of(run)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"imagenet_linear": {"epochs": 1}}, "imagenet_linear.epochs: 1, paper 100"),
        ({"imagenet_linear": {"learning_rate": 0.075}}, "imagenet_linear.learning_rate: 0.075, paper 0.3"),
        ({"coco_segmentation": {"iterations": 10}}, "coco_segmentation.iterations: 10, paper 180,000"),
        (
            {"coco_segmentation": {"max_test_images": 100}},
            "coco_segmentation.max_test_images: 100, paper null",
        ),
        ({"voc07": {"crop_size": 72}}, "voc07.crop_size: 72, paper 224"),
    ],
)
def test_a_benchmark_of_another_kind_is_alone_in_it(
    run: StageRun, changes: dict[str, dict[str, Any]], words: str
) -> None:
    write_results()
    report = make_report(run, **changes)
    (benchmark,) = changes
    assert alike(report) == [key for key in ALIKE if not key.startswith(benchmark)]
    assert differences(report, next(key for key in ALIKE if key.startswith(benchmark))) == [words]
    assert f"({words})" in text_of(run)


def note_protocol(version: int, **changed: Any) -> None:
    """Settings of the paper beside VOC07's figure, with what was changed."""
    settings = read_preset(BEST)["voc07"] | {"batch_size": 64, **changed}
    protocol = {"name": PROTOCOLS["voc07"].name, "version": version, "settings": settings}
    path = Path("outputs/benchmarks/voc07/virtex/metrics.json")
    write_json(path, json.loads(path.read_text()) | {"protocol": protocol})


def test_the_settings_beside_a_figure_decide_whatever_params_say(run: StageRun) -> None:
    write_results()
    version = PROTOCOLS["voc07"].version
    note_protocol(version)
    assert alike(make_report(run)) == ALIKE
    note_protocol(version, crop_size=72)
    assert differences(make_report(run), "voc07.mAP") == ["voc07.crop_size: 72, paper 224"]
    note_protocol(version - 1)
    (words,) = differences(make_report(run), "voc07.mAP")
    assert words.startswith("protocol: linear SVMs")
    assert f"version {version - 1}; that of today:" in words


def test_what_is_run_otherwise_is_a_protocol_of_today(run: StageRun, monkeypatch: pytest.MonkeyPatch) -> None:
    write_results()
    note_protocol(PROTOCOLS["voc07"].version)
    name = PROTOCOLS["voc07"].name
    changed = {"voc07": Protocol("another", PROTOCOLS["voc07"].version, otherwise=name)}
    monkeypatch.setattr("components.report.protocol.PROTOCOLS", changed)
    assert differences(make_report(run), "voc07.mAP") == []


def test_data_of_another_number_of_classes(run: StageRun, capsys: pytest.CaptureFixture[str]) -> None:
    write_results(num_classes=10)
    report = make_report(run)
    assert differences(report, "imagenet_linear.top1") == ["classes: 10, paper 1,000"]
    (warning,) = report["warnings"]
    assert warning.startswith("ImageNet linear has the paper's parameters and 10 classes instead of 1,000")
    assert f"Warning: {warning}" in capsys.readouterr().err
    assert "## Warnings" in text_of(run)
    assert warning in " ".join((run.output_dir / "report.html").read_text().replace("&#39;", "'").split())
    assert make_report(run, imagenet_linear={"epochs": 1})["warnings"] == []  # claims nothing


def test_seeds_folders_and_how_often_something_is_said_decide_nothing(run: StageRun) -> None:
    write_results()
    report = make_report(
        run, pretrain={"seed": 7, "log_every": 1}, imagenet_linear={"seed": 7, "log_every": 1}
    )
    assert alike(report) == ALIKE
