"""The stage ``detection`` and its three tasks, on the drawn world's own COCO, LVIS and VOC."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from components import params
from components.benchmarks.shared.per_image import PerImage
from components.core import paths
from components.core.errors import InputError
from components.params import DrawnWorld, Section, read_section
from components.sources.drawn_world.world import draw_world
from components.sources.manifest import (
    CaptionedEntry,
    DatasetEntry,
    LvisEntry,
    Manifest,
    read_manifest,
    write_manifest,
    write_parts,
)
from components.stages import baseline, detection
from components.tracking import StageRun, UsedDataset

REPOSITORY = Path(__file__).resolve().parents[3]
WORLD = {
    "seed": 0, "image_size": 64, "train_images": 4, "val_images": 2, "voc_trainval_images": 12,
    "voc_test_images": 12, "imagenet_train_images": 0, "imagenet_val_images": 0,
    "inaturalist_train_images": 0, "inaturalist_val_images": 0,
}  # fmt: skip
SMALL = {
    "iterations": 1, "milestones": [], "warmup_iterations": 0, "batch_size": 2, "train_sizes": [64],
    "test_size": 64, "max_size": 64, "rois_per_image": 8, "train_proposals": 100, "test_proposals": 4,
    "precise_bn_batches": 1, "max_test_images": 2, "gallery_images": 2,
}  # fmt: skip
KINDS = {
    "coco_segmentation": {"box", "mask"},
    "lvis_segmentation": {"box", "mask"},
    "voc_detection": {"box"},
}

# The stage, in which the second process kills itself after its second iteration, the first time.
WORKER = """
import os, runpy, signal, sys
from pathlib import Path
from components.training.metrics import Progress
advance, mark = Progress.advance, Path("killed")
def advance_and_die(self, num_images):
    advance(self, num_images)
    if self._iteration == 2 and os.environ["RANK"] == "1" and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
Progress.advance = advance_and_die
runpy.run_module("components.stages.detection", run_name="__main__")
"""

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    draw_world(DrawnWorld.model_validate(WORLD), root, num_workers=1, progress=False)
    return root


@pytest.fixture
def workspace(world: Path, folder: Path) -> Path:
    """A working directory with a manifest of the drawn world and a random backbone."""
    none: dict[str, Any] = {"annotations": {}, "images": {}, "listings": {}}
    manifest = Manifest(
        source="folders",
        captions={"coco": CaptionedEntry(root=str(world / "coco"), num_captions={}, **none)},
        voc2007=DatasetEntry(root=str(world / "voc2007/VOCdevkit"), **none),
        lvis=LvisEntry(root=str(world / "lvis"), images_root=str(world / "coco"), **none),
    )
    write_parts(paths.DATASETS_DIR, manifest, "coco")
    section = params.Baseline(seed=0, sources={"random": "random"})
    baseline.main(
        stage_run("baseline", "random"), section, params.Backbone(name="resnet18", zero_init_residual=True)
    )
    return folder


def stage_run(stage: str, item: str) -> StageRun:
    output_dir = paths.stage_dir(stage, item)
    output_dir.mkdir(parents=True, exist_ok=True)
    return StageRun(stage, item, output_dir, None)


def task_run(task: str) -> StageRun:
    return stage_run("detection", f"{task}-random")


def settings(section: type[Section], **changes: Any) -> Any:
    shipped = read_section(section, REPOSITORY / "params.yaml")
    return section.model_validate({**shipped.model_dump(), **SMALL, **changes})


@pytest.mark.parametrize("name", KINDS)
def test_a_stage_leaves_figures_tables_and_a_picture(name: str, workspace: Path) -> None:
    kinds, run = KINDS[name], task_run(name)
    assert run.output_dir == Path("outputs/benchmarks", name, "random")
    detection.main(run, settings(detection.SECTIONS[name]))
    figures = json.loads((run.output_dir / "metrics.json").read_text())
    assert kinds == {kind for kind in ("box", "mask") if kind in figures}
    assert figures["images"] == 2
    assert figures["train_loss"] > 0
    assert figures["protocol"]["settings"]["iterations"] == 1
    assert figures["protocol"]["name"].startswith(
        "Faster R-CNN C4, " if kinds == {"box"} else "Mask R-CNN with FPN, "
    )
    assert PerImage.read(run.output_dir / "per_image.npz").intervals() == figures["intervals"]
    assert set(figures["intervals"]) >= {f"{kind}.AP" for kind in kinds}
    header = (run.output_dir / "ap.csv").read_text().splitlines()[0]
    assert header.split(",")[1:] == sorted(kinds)
    assert (run.output_dir / "detections.png").read_bytes().startswith(b"\x89PNG")


def test_around_a_network_of_timm_the_protocol_names_the_pyramid(workspace: Path) -> None:
    section = params.Baseline(seed=0, sources={"random": "random"})
    backbone = params.Backbone(name="timm/test_convnext", zero_init_residual=True)
    baseline.main(stage_run("baseline", "random"), section, backbone)
    run = task_run("voc_detection")
    detection.main(run, settings(params.VocDetection))
    figures = json.loads((run.output_dir / "metrics.json").read_text())
    assert figures["protocol"]["name"] == "Faster R-CNN with FPN, AP at eleven recalls of VOC2007"


@pytest.mark.parametrize(
    ("name", "dataset", "contexts"),
    [
        ("coco_segmentation", "coco", {"train": "training", "val": "validation"}),
        ("lvis_segmentation", "lvis", {"train": "training", "val": "validation"}),
        ("voc_detection", "voc2007", {"trainval": "training", "test": "test"}),
    ],
)
def test_the_data_are_inputs_of_the_run(
    name: str, dataset: str, contexts: dict[str, str], workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = paths.dataset_part(name)
    listings = {split: split * 9 for split in contexts}
    images = {split: len(split) for split in contexts}
    manifest = read_manifest(path)
    entries: dict[str, Any] = {**manifest.benchmarks, **manifest.captions}
    entries[dataset].listings.update(listings)
    entries[dataset].images.update(images)
    write_manifest(path, manifest)
    used: list[UsedDataset] = []
    monkeypatch.setattr(StageRun, "uses", lambda _, *datasets: used.extend(datasets))
    monkeypatch.setattr(detection, "run_recorded", lambda *_: None)
    detection.main(task_run(name), settings(detection.SECTIONS[name]))
    assert {(entry.name.split()[-1], entry.context, entry.digest) for entry in used} == {
        (split, context, split * 9) for split, context in contexts.items()
    }
    assert [entry.profile for entry in used] == [{"images": len(split)} for split in contexts]


def test_two_processes_of_which_one_is_killed_give_what_one_gives(workspace: Path) -> None:
    section = settings(
        params.CocoSegmentation,
        norm="frozen",
        iterations=3,
        checkpoint_every=1,
        log_every=1,
        train_sizes=[48, 64],
    )
    run = task_run("coco_segmentation")
    detection.main(run, section)
    alone = losses_of(run)
    figures = json.loads((run.output_dir / "metrics.json").read_text())

    (workspace / "params.yaml").write_text(json.dumps({"coco_segmentation": section.model_dump(mode="json")}))
    (workspace / "worker.py").write_text(WORKER)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    finished = subprocess.run(
        [*torchrun, "--max-restarts", "1", "worker.py", "coco_segmentation", "random"],
        env={
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "OMP_NUM_THREADS": "1",
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
            "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",  # nobody answers; the work goes on
        },
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("continuing after iteration 1,") == 1
    assert finished.stdout.count("coco_segmentation from random") == 1
    together = losses_of(run)
    assert [row["iteration"] for row in together] == [1, 2, 3]
    for row, expected in zip(together, alone, strict=True):
        assert row == pytest.approx(expected, rel=1e-3)
    again = json.loads((run.output_dir / "metrics.json").read_text())
    assert again["images"] == figures["images"]
    assert again["mask"]["AP"] == pytest.approx(figures["mask"]["AP"], abs=0.5)


def losses_of(run: StageRun) -> list[dict[str, float]]:
    with open(run.output_dir / "losses.csv", encoding="utf-8", newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("coco_segmentation", {}, "this run has no captioned dataset `coco`"),
        ("coco_segmentation", {"dataset": "plain"}, "`plain` has no instances_train2017.json"),
        ("lvis_segmentation", {}, "this run has no `lvis` data"),
        ("voc_detection", {}, "this run has no VOC2012, which the set 2012/trainval needs"),
    ],
)
def test_without_its_data_a_stage_says_so_and_the_run_goes_on(
    workspace: Path, world: Path, name: str, changes: dict[str, Any], reason: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    none: dict[str, Any] = {"annotations": {}, "images": {}, "listings": {}}
    plain = CaptionedEntry(root=str(workspace / "plain"), num_captions={}, **none)
    voc2007 = DatasetEntry(root=str(world / "voc2007/VOCdevkit"), **none)
    manifest = Manifest(source="folders", captions={"plain": plain}, benchmarks={"voc2007": voc2007})
    kinds = KINDS[name]
    if name == "voc_detection":
        changes = {"train_sets": ["2007/trainval", "2012/trainval"]}
    run = task_run(name)
    write_parts(paths.DATASETS_DIR, manifest, changes.get("dataset", "coco"))
    detection.main(run, settings(detection.SECTIONS[name], **changes))
    assert json.loads((run.output_dir / "metrics.json").read_text()) == {"not_run": reason}
    assert (run.output_dir / "ap.csv").read_text() == ",".join(["class", *sorted(kinds)]) + "\n"
    assert (run.output_dir / "losses.csv").read_text() == "iteration,loss\n"
    assert (run.output_dir / "detections.png").read_bytes().startswith(b"\x89PNG")
    assert "is not run" in capsys.readouterr().out


def test_without_detectron2_its_engine_says_how_to_get_it(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "detectron2", None)
    with pytest.raises(InputError, match=r"pip install .*detectron2"):
        detection.main(task_run("coco_segmentation"), settings(params.CocoSegmentation, engine="detectron2"))
