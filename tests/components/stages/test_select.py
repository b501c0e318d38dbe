import csv
import json
from pathlib import Path

import pytest
import safetensors
import torch
import torchvision
from safetensors.torch import load_file

from components import params
from components.benchmarks.voc07.protocol import Voc07Benchmark
from components.benchmarks.voc07.results import read_measured
from components.core import paths
from components.core.errors import InputError
from components.core.tensor_files import tensors_sha256
from components.models.backbones import load_backbone
from components.objectives.build import ModelConfig, build_objective
from components.objectives.saved import Preprocessing, load_captioner, load_preprocessing, save_captioner
from components.stages import select, voc07
from components.tracking import StageRun

VOC07 = params.Voc07(
    image_size=48,
    crop_size=40,
    batch_size=16,
    costs=[0.1, 10.0],
    folds=3,
    positive_weight=2.0,
    max_iterations=2000,
)
CAPTION = params.Caption(
    dataset="world",
    image_size=73,
    antialias=False,
    beam_size=2,
    batch_size=3,
    max_images=None,
    gallery_images=6,
)
CONFIG = ModelConfig(
    backbone=params.Backbone(name="resnet18", zero_init_residual=False),
    textual_head=params.TextualHead(
        hidden_size=32,
        num_layers=1,
        attention_heads=2,
        feedforward_size=None,
        norm="post",
        dropout=0.1,
        max_caption_length=10,
    ),
    objective=params.Objective(name="bicaptioning"),
    vocab_size=30,
)
LOSSES = {10: 3.0, 20: 2.0, 30: 2.5}


class RecordingRun(StageRun):
    """A stage run without MLflow that keeps the figures and models it is given."""

    def __init__(self, stage: str, item: str | None = None) -> None:
        output_dir = paths.stage_dir(stage, item)
        output_dir.mkdir(parents=True, exist_ok=True)
        super().__init__(stage, item, output_dir, None)
        self.elsewhere: list[tuple[str, Path, set[str], int | None]] = []
        self.models: dict[str, tuple[torch.nn.Module, torch.Tensor]] = {}

    def model(self, name, module, example, weights=None) -> None:
        self.models[name] = (module, example)

    def model_elsewhere(self, name, weights, scores=None, step=None) -> None:
        self.elsewhere.append((name, weights, set(scores), step))


@pytest.fixture
def candidates(folder: Path) -> dict[int, Path]:
    """Three models with their validation losses, as pretraining leaves them; the first sees no colours."""
    files = {}
    for iteration in LOSSES:
        torch.manual_seed(iteration)
        objective = build_objective(CONFIG)
        if iteration == 10:
            torch.nn.init.zeros_(objective.visual.get_submodule("cnn").get_submodule("conv1").weight)
        files[iteration] = paths.CANDIDATES_DIR / f"iteration_{iteration:09d}.safetensors"
        save_captioner(files[iteration], objective, CONFIG)
    rows = "".join(f"{iteration},{loss}\n" for iteration, loss in LOSSES.items())
    (paths.stage_dir("pretrain") / "val.csv").write_text(f"iteration,loss\n{rows}")
    return files


@pytest.mark.parametrize(("by", "iteration"), [("val_loss", 20), ("last", 30)])
def test_without_voc07_nothing_is_measured(candidates: dict[int, Path], by: str, iteration: int) -> None:
    section = params.Select.model_validate({"by": by, "split": "test"})
    run = RecordingRun("select")
    select.main(run, section, VOC07, CAPTION)
    assert paths.CAPTIONER.read_bytes() == candidates[iteration].read_bytes()
    figures = json.loads((run.output_dir / "metrics.json").read_text())
    assert (figures["iteration"], figures["num_candidates"]) == (iteration, 3)
    assert figures["val_loss"] == LOSSES[iteration]
    assert run.elsewhere == [(path.stem, path, {"val_loss"}, step) for step, path in candidates.items()]
    assert "mAP" not in figures


def test_the_chosen_model_remembers_at_which_scale_it_captions(candidates: dict[int, Path]) -> None:
    save_captioner(candidates[30], build_objective(CONFIG), CONFIG, Preprocessing(64, b"model"))
    section, files = params.Select(by="last", split="test"), []
    for size in (73, 73, None):
        select.main(RecordingRun("select"), section, VOC07, CAPTION.model_copy(update={"image_size": size}))
        files.append(paths.CAPTIONER.read_bytes())
        assert load_preprocessing(paths.CAPTIONER) == Preprocessing(64, b"model", size, antialias=False)
        assert tensors_sha256(paths.CAPTIONER) == tensors_sha256(candidates[30])  # no benchmark is stale
    assert files[0] == files[1] != files[2]


@pytest.mark.parametrize("split", ["test", "trainval"])
@pytest.mark.integration
def test_the_best_on_voc07_is_the_one_that_is_kept_and_measured_but_once(
    candidates: dict[int, Path], voc: Path, monkeypatch: pytest.MonkeyPatch, split: str
) -> None:
    run = RecordingRun("select")
    select.main(run, params.Select.model_validate({"by": "voc07", "split": split}), VOC07, CAPTION)
    with open(run.output_dir / "checkpoints.csv", newline="") as file:
        rows = {int(row["iteration"]): row for row in csv.DictReader(file)}
    scores = {iteration: float(row[f"{split}_mAP"]) for iteration, row in rows.items()}
    assert scores[10] < max(scores.values())  # a network that sees nothing is not the best
    figures = json.loads((run.output_dir / "metrics.json").read_text())
    chosen = figures["iteration"]
    assert scores[chosen] == max(scores.values())
    assert rows[chosen]["chosen"] == "yes"
    assert paths.CAPTIONER.read_bytes() == candidates[chosen].read_bytes()
    assert load_captioner(paths.CAPTIONER)[1] == CONFIG
    assert run.elsewhere == [
        (path.stem, path, {"val_loss", "mAP", "trainval_mAP"}, step) for step, path in candidates.items()
    ]

    def extract(*_: object, **__: object) -> None:
        raise AssertionError("the features are there already")

    with monkeypatch.context() as patched:
        patched.setattr("components.benchmarks.voc07.protocol.cached_features", extract)
        patched.setattr("components.benchmarks.voc07.protocol.evaluate_classes", extract)
        voc07.main(RecordingRun("voc07", "virtex"), VOC07)  # takes what select has measured
    folder = paths.stage_dir("voc07", "virtex")
    taken = {name: (folder / name).read_bytes() for name in ("ap.csv", "precision_recall.csv")}
    paths.CHOSEN_VOC07.unlink()
    monkeypatch.setattr("components.benchmarks.shared.features.extract_features", extract)
    benchmark = RecordingRun("voc07", "virtex")
    voc07.main(benchmark, VOC07)
    assert {name: (folder / name).read_bytes() for name in taken} == taken  # and computes the same
    measured = json.loads((benchmark.output_dir / "metrics.json").read_text())
    assert measured["mAP"] == pytest.approx(figures["mAP"])


def test_a_run_without_voc2007_is_refused(candidates: dict[int, Path]) -> None:
    with pytest.raises(InputError, match="run the datasets stage first"):
        select.main(RecordingRun("select"), params.Select(by="voc07", split="test"), VOC07, CAPTION)
    assert not paths.CAPTIONER.exists()


LAST = params.Select(by="last", split="test")


def test_writes_the_backbone_of_the_chosen_model(candidates: dict[int, Path]) -> None:
    torch.manual_seed(0)
    objective = build_objective(CONFIG).train()
    objective.visual(torch.randn(4, 3, 64, 64))  # moves the BatchNorm statistics
    save_captioner(candidates[30], objective, CONFIG)
    run = RecordingRun("select")
    select.main(run, LAST, VOC07, CAPTION)

    path = paths.backbone_path("virtex")
    backbone, metadata = load_backbone(path)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = objective.eval().visual(images).mean(dim=(2, 3))
    torch.testing.assert_close(backbone(images), expected)
    assert metadata["objective"] == "bicaptioning"
    assert metadata["source"] == "virtex"
    assert ModelConfig.model_validate_json(metadata["pretraining_config"]) == CONFIG
    assert torchvision.models.resnet18().load_state_dict(load_file(path), strict=False).missing_keys == [
        "fc.weight",
        "fc.bias",
    ]
    module, example = run.models["backbone"]
    assert len(example) >= 2
    assert module(example).shape == (len(example), 512)
    figures = json.loads((run.output_dir / "metrics.json").read_text(encoding="utf-8"))
    assert figures["feature_size"] == 512
    assert figures["num_parameters"] == 11_176_512  # torchvision's resnet18 without its fc


def test_a_damaged_model_leaves_the_old_backbone(candidates: dict[int, Path]) -> None:
    candidates[30].write_bytes(b"damaged")
    paths.BACKBONES_DIR.mkdir(parents=True)
    paths.backbone_path("virtex").write_bytes(b"old")
    with pytest.raises(InputError, match="not a whole safetensors file"):
        select.main(RecordingRun("select"), LAST, VOC07, CAPTION)
    assert paths.backbone_path("virtex").read_bytes() == b"old"


def test_the_same_model_gives_the_same_bytes(candidates: dict[int, Path]) -> None:
    written = []
    for _ in range(2):
        select.main(RecordingRun("select"), LAST, VOC07, CAPTION)
        written.append(paths.backbone_path("virtex").read_bytes())
    assert written[0] == written[1]
    with safetensors.safe_open(paths.backbone_path("virtex"), framework="pt") as file:
        assert len(file.metadata()["captioner_tensors_sha256"]) == 64


@pytest.mark.integration
def test_results_of_another_backbone_or_of_other_settings_are_not_taken(
    candidates: dict[int, Path], voc: Path
) -> None:
    select.main(RecordingRun("select"), params.Select(by="voc07", split="test"), VOC07, CAPTION)
    key = json.loads(paths.CHOSEN_VOC07.read_text())["key"]
    backbone, _ = load_backbone(paths.backbone_path("virtex"))
    assert Voc07Benchmark(VOC07).key(backbone) == key
    assert read_measured(paths.CHOSEN_VOC07, key) is not None
    assert Voc07Benchmark(VOC07.model_copy(update={"folds": 2})).key(backbone) != key
    next(backbone.parameters()).data[0] += 1.0
    other = Voc07Benchmark(VOC07).key(backbone)
    assert other != key
    assert read_measured(paths.CHOSEN_VOC07, other) is None
    paths.CHOSEN_VOC07.write_text('{"key": 3')
    assert read_measured(paths.CHOSEN_VOC07, key) is None
