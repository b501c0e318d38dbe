"""Files that people reported, through the stages that read them: every image and caption, or a clear word."""

import json
from pathlib import Path
from typing import Any

import pytest

from components import params
from components.core import paths
from components.core.datasets import DATASETS
from components.core.errors import InputError
from components.data.store import CaptionStore
from components.stages import datasets, lmdb
from components.tracking import StageRun

REPOSITORY = Path(__file__).resolve().parents[5]

pytestmark = pytest.mark.integration

CAPTIONS = (
    "a red dog runs on green grass", "two cats sit on a blue sofa", "a man rides a bike down a street",
    "a plate of food on a wooden table", "a bird flies over the water", "children play with a yellow ball",
)  # fmt: skip
NO_FOLDERS: dict[str, Any] = {
    "captions": {}, "voc2007": None, "voc2012": None, "imagenet": None, "inaturalist": None, "lvis": None
}  # fmt: skip
OWN = {
    "image_column": "image", "caption_column": "caption", "split_column": "split", "val_fraction": 0.2,
    "seed": 0, "url_connections": 4,
}  # fmt: skip
NOTHING_DRAWN = {
    "seed": 0, "image_size": 32, "train_images": 3, "val_images": 2, "voc_trainval_images": 0,
    "voc_test_images": 0, "imagenet_train_images": 0, "imagenet_val_images": 0,
    "inaturalist_train_images": 0, "inaturalist_val_images": 0,
}  # fmt: skip
LMDB = params.Lmdb(short_side=None, jpeg_quality=95, decoded=False, on_unreadable="refuse")


@pytest.fixture
def reports(shared_dir: Path) -> Path:
    folder = shared_dir / "reports"
    if not folder.is_dir():
        pytest.skip(f"no reports at {folder}")
    return folder.resolve()


@pytest.fixture(autouse=True)
def in_empty_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VIRTEX_NUM_WORKERS", "1")


def run_datasets(**folders: Any) -> dict[str, Any]:
    section = params.Download.model_validate(
        {
            "source": "folders", "drawn_world": NOTHING_DRAWN, "published": [], "connections": 2,
            "mirrors": {name: [] for name in DATASETS}, "folders": NO_FOLDERS | folders, "own_data": OWN,
        }
    )  # fmt: skip
    output_dir = paths.stage_dir("datasets")
    output_dir.mkdir(parents=True, exist_ok=True)
    sections = {params.Download: section, params.Lmdb: LMDB}
    others = [kind for kind in datasets.SECTIONS if kind not in sections]
    sections |= {kind: params.read_section(kind, REPOSITORY / "params.yaml") for kind in others}
    datasets.main(
        StageRun("datasets", None, output_dir, None), *(sections[kind] for kind in datasets.SECTIONS)
    )
    return json.loads((output_dir / "metrics.json").read_text(encoding="utf-8"))


def stored() -> list[tuple[str, ...]]:
    """The captions of each image that training would see."""
    found = []
    for split in ("train", "val"):
        run = StageRun("lmdb", split, paths.stage_dir("lmdb", split), None)
        run.output_dir.mkdir(parents=True)
        lmdb.main(run, LMDB, params.Stream(train=False, mixed_tars=None, cache_gib=1.0))
        found += [tuple(record.captions) for record in CaptionStore(paths.lmdb_path(split))]
    return sorted(found)


def each(*captions: str) -> list[tuple[str, ...]]:
    return sorted((caption,) for caption in captions)


@pytest.mark.parametrize(
    ("place", "captions", "told"),
    [
        ("csv_trailing_comma/captions.csv", each(*CAPTIONS), "6 rows with a blank cell too many"),
        (
            "csv_dup_header/captions.csv",
            sorted((caption, f"{caption} again") for caption in CAPTIONS),
            "6 images and 12 captions; left out nothing",
        ),
        (
            "tsv_quote_swallow/captions.tsv",
            each('"hello says the dog', CAPTIONS[1], CAPTIONS[2], 'the end" he said', '"bird', 'ball"'),
            "noted 2 rows whose quotes are not balanced, read as they stand (such as {place}: row 2)",
        ),
        (
            "jsonl_surrogate/captions.jsonl",
            each(CAPTIONS[0].replace("on green", "on  green"), *CAPTIONS[1:]),
            "1 captions of which half a character is taken away (such as {place}: line 1)",
        ),
        ("parquet_hf_bytes/captions.parquet", each(*CAPTIONS), "6 images and 6 captions; left out nothing"),
        ("hf_imagefolder/photos", each(*CAPTIONS), "6 images and 6 captions; left out nothing"),
        ("sidecar_bom/photos", each(*CAPTIONS), "6 images and 6 captions; left out nothing"),
        ("sidecar_upper/photos", each(*CAPTIONS[:5]), "5 images and 5 captions; left out nothing"),
        (
            "sidecar_hidden/photos",
            each(*CAPTIONS[:3]),
            "3 images and 3 captions; left out 2 hidden or companion files and folders",
        ),
        ("sidecar_only_jfif/photos", each(*CAPTIONS[:3]), "3 images and 3 captions; left out nothing"),
        ("tar_dots/shards", each(*CAPTIONS), "6 images and 6 captions; left out nothing"),
    ],
)  # fmt: skip
def test_captions_of_ones_own(
    reports: Path, capsys: pytest.CaptureFixture[str], place: str, captions: list[tuple[str, ...]], told: str
) -> None:
    run_datasets(captions={"mine": str(reports / place)})
    assert told.format(place=reports / place) in capsys.readouterr().out
    assert stored() == captions


def test_swapped_columns(reports: Path) -> None:
    with pytest.raises(InputError, match=r"row 2: no such image: .{100,200}\.\.\. .*wrong way round"):
        run_datasets(captions={"mine": str(reports / "csv_columns_swapped/captions.csv")})


def test_companions_of_imagenet(reports: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = {"mine": str(reports / "sidecar_bom/photos")}
    figures = run_datasets(captions=mine, imagenet=str(reports / "inet_appledouble"))
    assert figures["imagenet"] == {
        "train": {"images": 12, "classes": 3},
        "val": {"images": 6, "classes": 3},
    }
    assert "imagenet: took 18 images of 3 classes; left out 4 hidden or companion" in capsys.readouterr().out
