import gzip
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from ruamel.yaml import YAML

from components import params
from components.benchmarks.voc07.checkpoint_choice import measure_file, read_candidates
from components.benchmarks.voc07.protocol import Voc07Benchmark
from components.core import paths
from components.core.errors import InputError
from components.data.build import build_store
from components.data.record import StoreForm
from components.data.store import CaptionStore, identify
from components.objectives.saved import (
    Preprocessing,
    load_captioner,
    load_preprocessing,
)
from components.pretraining.run import Sections, resume_checkpoints
from components.sources.readers.types import CaptionedImage
from components.stages import pretrain as stage
from components.text.tokenizer import train_tokenizer
from components.tracking.run import StageRun
from components.training.checkpoints import CheckpointFolder, Measure
from tests.components.stages.pretraining import (
    PROGRAM,
    digests,
    logged_rows,
    pretrain_run,
    program_environment,
)

REPOSITORY = Path(stage.__file__).parents[2]


@pytest.mark.integration
def test_a_killed_run_goes_on_and_ends_with_the_same_captioner(sections: list[params.Section]) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        stage.main(pretrain_run(), *sections)
    finally:
        torch.set_num_threads(threads)
    whole = digests()
    assert list(whole) == ["iteration_000000004.safetensors", "iteration_000000008.safetensors"]
    metrics = json.loads((paths.stage_dir("pretrain") / "metrics.json").read_text())
    assert metrics["iterations"] == 8
    assert metrics["images_seen"] == 32
    assert (metrics["images"], metrics["captions"]) == (8, 16)
    assert metrics["val_loss"] == pytest.approx(sum(metrics["val"].values()))
    assert set(metrics["val"]) == {"captioning_forward", "captioning_backward"}
    assert [row["iteration"] for row in logged_rows("train.csv")] == ["2", "4", "6", "8"]
    assert [row["iteration"] for row in logged_rows("val.csv")] == ["4", "8"]
    last = paths.CANDIDATES_DIR / list(whole)[-1]
    captioner, config = load_captioner(last)
    assert config.vocab_size == 30
    assert captioner.visual is not None
    assert load_preprocessing(last) == Preprocessing(32, paths.TOKENIZER_MODEL.read_bytes())
    assert list(paths.SCRATCH_DIR.glob("pretrain/*")) == []
    val_rows = logged_rows("val.csv")

    shutil.rmtree(paths.CANDIDATES_DIR)
    killed = subprocess.run([sys.executable, "-c", PROGRAM, "die"], env=program_environment())
    assert killed.returncode == -signal.SIGKILL
    assert not paths.CANDIDATES_DIR.exists()
    resumed = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=program_environment(), check=True, capture_output=True, text=True
    )
    assert "continuing after iteration 2," in resumed.stdout
    assert "iteration 8/8 (100%)" in resumed.stderr
    assert digests() == whole
    assert logged_rows("val.csv") == val_rows
    assert list(paths.SCRATCH_DIR.glob("pretrain/*")) == []


@pytest.mark.integration
def test_crops_grow_and_a_crash_before_or_after_a_step_changes_nothing(
    sections: list[params.Section], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [(0.0, 32), (0.5, 40), (0.75, 48)]
    _set(sections, params.Augmentation, crop_size=48, crop_sizes=sizes)
    _set(sections, params.Backbone, name="timm/test_convnext", drop_path=0.1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        stage.main(pretrain_run(), *sections)
        whole, train_rows, val_rows = digests(), logged_rows("train.csv"), logged_rows("val.csv")
        assert [row["crop_size"] for row in train_rows] == [
            "32",
            "32",
            "40",
            "48",
        ]  # of iterations 2, 4, 6, 8
        shutil.rmtree(paths.CANDIDATES_DIR)
        save = CheckpointFolder.save

        def save_and_crash(*arguments: Any) -> None:
            save(*arguments)
            raise MemoryError("crashed")

        with monkeypatch.context() as patched:
            patched.setattr(CheckpointFolder, "save", save_and_crash)
            for _ in range(2):  # after iterations 2 and 4
                with pytest.raises(MemoryError, match="crashed"):
                    stage.main(pretrain_run(), *sections)
        stage.main(pretrain_run(), *sections)
    finally:
        torch.set_num_threads(threads)
    assert digests() == whole
    assert logged_rows("val.csv") == val_rows
    kept = ("iteration", "loss", "grad_norm", "crop_size")
    assert [[row[name] for name in kept] for row in logged_rows("train.csv")] == [
        [row[name] for name in kept] for row in train_rows
    ]


@pytest.mark.integration
@pytest.mark.parametrize("backbone", ["timm/test_convnext", "timm/test_vit"])
def test_a_network_of_timm_is_pretrained_and_comes_back(
    sections: list[params.Section], backbone: str
) -> None:
    _set(sections, params.Backbone, name=backbone, drop_path=0.1)
    _set(sections, params.Augmentation, jitter_probability=0.0)
    _set(sections, params.Schedule, iterations=24)
    _set(sections, params.Pretrain, batch_size=8, validate_every=24, checkpoint_every=100)
    stage.main(pretrain_run(), *sections)
    metrics = json.loads((paths.stage_dir("pretrain") / "metrics.json").read_text())
    assert metrics["val_loss"] < 6.0  # it starts at about ln 30 a direction
    captioner, config = load_captioner(paths.CANDIDATES_DIR / "iteration_000000024.safetensors")
    assert config.backbone.name == backbone
    assert captioner.visual(torch.zeros(1, 3, 48, 48)).shape[1] == 64


def test_a_network_without_a_pyramid_is_refused_before_training(sections: list[params.Section]) -> None:
    tree = YAML().load(paths.PARAMS)
    tree["backbone"]["name"] = "timm/test_vit"
    for name in ("coco_segmentation", "lvis_segmentation", "voc_detection"):
        tree[name]["freeze_at"] = 0
    YAML().dump(tree, paths.PARAMS)
    with pytest.raises(InputError, match=r"no feature maps.* set benchmarks\.detection_backbones to \[\]"):
        stage.main(pretrain_run(), *sections)


# Loss parts, images used, captions used, and what 24 iterations must bring the loss below. It starts at about
# ln 30 a direction (ln 4 for object labels); as labels, a caption's ten tokens leave at least ln 10.
TASKS = {
    "bicaptioning": ({"captioning_forward", "captioning_backward"}, 8, 16, 3.5),
    "captioning": ({"captioning_forward"}, 8, 16, 1.8),
    "masked_lm": ({"masked_lm"}, 8, 16, 2.6),
    "token_classification": ({"classification"}, 8, 16, 2.7),
    "multilabel_classification": ({"classification"}, 6, 0, 0.8),
    "parallel_captioning": ({"captioning_forward", "captioning_parallel"}, 8, 16, 2.6),
    "idf_token_classification": ({"classification"}, 8, 16, 2.7),
    "contrastive_classification": ({"contrastive", "classification"}, 8, 16, 9.0),
}


class Recorded(StageRun):
    """What a stage would send to MLflow, kept here."""

    def __init__(self) -> None:
        super().__init__("pretrain", None, paths.stage_dir("pretrain"))
        self.output_dir.mkdir(parents=True, exist_ok=True)
        self.run_id = "run"
        self.images: dict[str, Any] = {}
        self.used: list[Any] = []
        self.artifacts: dict[str, bytes] = {}

    def image(self, key: str, draw: Any, step: int) -> None:
        self.images[key] = draw()

    def uses(self, *datasets: Any) -> None:
        self.used += datasets

    def artifact(self, path: Path, folder: str | None = None) -> None:
        self.artifacts[f"{folder}/{path.name}" if folder else path.name] = path.read_bytes()


@pytest.mark.integration
@pytest.mark.parametrize("name", TASKS)
def test_every_task_learns_and_its_model_comes_back(
    sections: list[params.Section], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parts, images, captions, below = TASKS[name]
    _set(sections, params.Objective, name=name)
    _set(sections, params.Augmentation, jitter_probability=0.0)
    _set(sections, params.Optimizer, name="sgd", backbone_lr=0.01, head_lr=0.1, lookahead_steps=0)
    _set(sections, params.Schedule, iterations=24)
    _set(sections, params.Pretrain, batch_size=8, validate_every=24, checkpoint_every=100)
    run = Recorded()
    stage.main(run, *sections)
    assert {used.name: used.profile["images"] for used in run.used} == {
        "grey train": images,
        "grey val": 3 if captions else 2,  # those with labels
    }
    shown = ["training samples"] + (["validation captions"] if "captioning" in name else [])
    assert list(run.images) == shown
    told = capsys.readouterr().out.count("iteration 24 writes: ")
    assert (told > 0) == paths.CAPTIONS_NOW.is_file() == ("captioning" in name)
    assert all(pixels.std() > 0 and pixels.shape[-1] == 3 for pixels in run.images.values())
    metrics = json.loads((paths.stage_dir("pretrain") / "metrics.json").read_text())
    losses = [float(row["loss"]) for row in logged_rows("train.csv")]
    assert sum(losses[-3:]) / 3 < below < losses[0]
    assert set(metrics["val"]) == parts
    assert (metrics["images"], metrics["captions"]) == (images, captions)
    assert ("perplexity" in metrics) == (name in ("bicaptioning", "captioning", "masked_lm"))
    model, config = load_captioner(paths.CANDIDATES_DIR / "iteration_000000024.safetensors")
    assert config.vocab_size == (4 if name == "multilabel_classification" else 30)
    layer = "embedding.words" if name.startswith("contrastive") else "output"
    assert len(model.get_parameter(f"textual.{layer}.weight")) == config.vocab_size


def test_object_labels_must_be_there_before_training(sections: list[params.Section]) -> None:
    _set(sections, params.Objective, name="multilabel_classification")
    pictures = [CaptionedImage("grey/0", "grey", Path("0.png"), ("a square",))]
    build_store(paths.lmdb_path("val"), pictures, StoreForm(), num_workers=1)
    with pytest.raises(InputError, match=r"val\.lmdb has no object labels.*instances_val2017\.json"):
        stage.main(pretrain_run(), *sections)
    assert not paths.SCRATCH_DIR.exists()


def test_a_second_run_starts_from_the_first(
    sections: list[params.Section], capsys: pytest.CaptureFixture[str]
) -> None:
    """With a learning rate of next to nothing it ends where the first one ended."""
    stage.main(pretrain_run(), *sections)
    first = paths.SCRATCH_DIR / "first.safetensors"
    shutil.copy(max(paths.CANDIDATES_DIR.iterdir()), first)
    changes: dict[type[params.Section], dict[str, object]] = {
        params.Pretrain: {"start_from": str(first), "freeze_backbone": 100},
        params.Optimizer: {"head_lr": 1e-12, "weight_decay": 0.0, "name": "adamw"},
    }
    stage.main(
        pretrain_run(), *(section.model_copy(update=changes.get(type(section))) for section in sections)
    )
    assert f"starting from {first}: its backbone; its head, all words known" in capsys.readouterr().out
    before, after = (load_captioner(path)[0] for path in (first, max(paths.CANDIDATES_DIR.iterdir())))
    for (name, value), other in zip(before.named_parameters(), after.parameters(), strict=True):
        assert torch.allclose(value, other, rtol=0, atol=1e-9), name


def test_a_subset_is_recorded(sections: list[params.Section]) -> None:
    _set(sections, params.Subset, image_fraction=0.5, captions_per_image=1)
    _set(sections, params.Schedule, iterations=1, warmup_iterations=0)
    stage.main(pretrain_run(), *sections)
    metrics = json.loads((paths.stage_dir("pretrain") / "metrics.json").read_text())
    assert (metrics["images"], metrics["captions"], metrics["images_seen"]) == (4, 4, 4)


def test_a_profile_goes_to_the_run(sections: list[params.Section]) -> None:
    _set(sections, params.Pretrain, profile=True)
    run = Recorded()
    stage.main(run, *sections)
    trace = json.loads(gzip.decompress(run.artifacts["profile/trace.json.gz"]))
    names = {event["name"] for event in trace["traceEvents"] if "name" in event}
    assert {"aten::convolution", "ProfilerStep#4", "ProfilerStep#6"} <= names
    assert "aten::convolution_backward" in run.artifacts["profile/operators.txt"].decode()


def _set(sections: list[params.Section], kind: type[params.Section], **values: Any) -> None:
    place = stage.SECTIONS.index(kind)
    sections[place] = sections[place].model_copy(update=values)


@pytest.mark.integration
def test_the_best_of_all_by_voc07_is_kept_as_select_measures_it(
    sections: list[params.Section], voc: Path
) -> None:
    _set(sections, params.Pretrain, keep_candidates=1, validate_every=2)
    stage.main(pretrain_run(), *sections)
    unmeasured = digests()
    _set(sections, params.Pretrain, measure_candidates=True)
    stage.main(pretrain_run(), *sections)
    assert digests().items() >= unmeasured.items()  # measuring changes nothing in training
    rows = {int(row["iteration"]): row for row in logged_rows("val.csv")}
    assert list(rows) == [2, 4, 6, 8]
    best = {
        max(rows, key=lambda iteration: (float(rows[iteration][name]), iteration))
        for name in ("voc07_mAP", "voc07_trainval_mAP")
    }
    lowest = min(rows, key=lambda iteration: float(rows[iteration]["loss"]))
    kept = read_candidates(paths.CANDIDATES_DIR, paths.stage_dir("pretrain") / "val.csv")
    assert {candidate.iteration for candidate in kept} == {*best, lowest, 8}
    benchmark = Voc07Benchmark(params.read_section(params.Voc07))
    for candidate in kept:
        _, *maps = measure_file(candidate.path, benchmark)
        written = rows[candidate.iteration]
        assert maps == [float(written["voc07_mAP"]), float(written["voc07_trainval_mAP"])]
    metrics = json.loads((paths.stage_dir("pretrain") / "metrics.json").read_text())
    assert set(metrics["val"]) == {"captioning_forward", "captioning_backward"}


def test_the_checkpoint_folder_follows_configuration_and_data(sections: list[params.Section]) -> None:
    def key(measure: str = "") -> str:
        stores = {path: identify(CaptionStore(path)) for path in map(paths.lmdb_path, ("train", "val"))}
        measured = Measure(measure, lambda _: {}) if measure else None
        return resume_checkpoints(Sections(*sections), stores, measured).folder.name

    before = key()
    assert key() == before
    assert len({before, key("one"), key("other")}) == 3
    sections[-1] = sections[-1].model_copy(update={"profile": True})
    assert key() == before
    sections[-1] = sections[-1].model_copy(update={"seed": 1})
    assert key() != before
    sections[-1] = sections[-1].model_copy(update={"seed": 0})
    train_tokenizer(["other words altogether, my dear"], 25, paths.TOKENIZER_MODEL)
    assert key() != before


@pytest.mark.parametrize("lost", ["tokenizer", "lmdb"])
def test_missing_inputs_are_named(sections: list[params.Section], lost: str) -> None:
    path = {"tokenizer": paths.TOKENIZER_MODEL, "lmdb": paths.lmdb_path("train")}[lost]
    path.unlink()
    with pytest.raises(InputError, match=path.name):
        stage.main(pretrain_run(), *sections)
