"""The stages `download` and `datasets` on a tiny "published" dataset that somebody put there by hand."""

import hashlib
import io
import json
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from components import params
from components.core import paths
from components.core.datasets import DATASETS, Archive
from components.core.errors import InputError
from components.params.reading import check_section, read_section
from components.sources.manifest import read_manifest
from components.sources.origins import READERS
from components.stages import datasets, download
from components.tracking import StageRun

REPOSITORY = Path(__file__).resolve().parents[3]
SECTION = YAML(typ="safe").load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))["download"]
SEGMENTATION = read_section(params.CocoSegmentation, Path(__file__).resolve().parents[3] / "params.yaml")
LMDB = params.Lmdb(short_side=None, jpeg_quality=95, decoded=False, on_unreadable="refuse")

pytestmark = pytest.mark.integration


def section(**changes: Any) -> params.Download:
    return check_section(params.Download, SECTION | changes, Path("params.yaml"))


def stage_run(stage: str, item: str | None = None) -> StageRun:
    output_dir = paths.stage_dir(stage, item)
    output_dir.mkdir(parents=True, exist_ok=True)
    return StageRun(stage, item, output_dir, None)


@pytest.fixture
def coco(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> params.Download:
    """COCO with one image a split, in one archive that lies where it arrives."""
    monkeypatch.chdir(tmp_path)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for split in ("train", "val"):
            captions = {
                "images": [{"id": 7, "file_name": "7.jpg"}],
                "annotations": [{"id": 1, "image_id": 7, "caption": "A dog."}],
            }
            for name, content in (
                (f"annotations/captions_{split}2017.json", json.dumps(captions).encode()),
                (f"{split}2017/7.jpg", b"jpeg"),
            ):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    data = stream.getvalue()
    archive = Archive("photos.tar", (), len(data), hashlib.md5(data).hexdigest(), 10**6)
    counts = {split: {"images": 1, "captions": 1} for split in ("train", "val")}
    monkeypatch.setitem(DATASETS, "coco", replace(DATASETS["coco"], archives=(archive,), counts=counts))
    incoming = paths.INCOMING_DIR / "coco"
    incoming.mkdir(parents=True)
    (incoming / "photos.tar").write_bytes(data)
    return section(source="published", published=["coco"])


def test_from_archives_to_captions(coco: params.Download) -> None:
    download.main(stage_run("download", "coco"), coco)
    figures = json.loads((paths.stage_dir("download", "coco") / "metrics.json").read_text())
    assert figures["archives"] == 1
    datasets.main(stage_run("datasets"), coco, LMDB, SEGMENTATION)
    manifest = read_manifest(paths.DATASETS_MANIFEST)
    root = Path(manifest.captions["coco"].root)
    assert root.parent == paths.UNPACKED_DIR
    assert {path.name for path in paths.DATASETS_DIR.rglob("*") if path.is_file()} == {"manifest.json"}

    shutil.rmtree(paths.UNPACKED_DIR)
    (image,) = manifest.captions_of("train")
    assert image.path == root / "train2017" / "7.jpg"
    assert image.read_bytes() == b"jpeg", "unpacked again, because it was missing"


def test_the_manifest_does_not_say_where_this_machine_unpacks(
    coco: params.Download, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    download.main(stage_run("download", "coco"), coco)
    datasets.main(stage_run("datasets"), coco, LMDB, SEGMENTATION)
    before = paths.DATASETS_MANIFEST.read_bytes()
    monkeypatch.setenv("VIRTEX_UNPACKED_DIR", str(tmp_path / "elsewhere"))
    datasets.main(stage_run("datasets"), coco, LMDB, SEGMENTATION)
    assert paths.DATASETS_MANIFEST.read_bytes() == before
    (image,) = read_manifest(paths.DATASETS_MANIFEST).captions_of("val")
    assert image.path.is_relative_to(tmp_path / "elsewhere")


def test_other_counts_than_published_are_refused(
    coco: params.Download, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = {"train": {"images": 2, "captions": 1, "objects": 5}}
    monkeypatch.setitem(DATASETS, "coco", replace(DATASETS["coco"], counts=counts))
    download.main(stage_run("download", "coco"), coco)
    with pytest.raises(InputError, match="train has 1 images, expected 2; train has 0 objects, expected 5"):
        datasets.main(stage_run("datasets"), coco, LMDB, SEGMENTATION)
    assert not paths.DATASETS_DIR.exists()


def test_params_and_stages_name_the_same_datasets() -> None:
    mirrors = {name: ["https://host/files"] for name in download.ITEMS}
    for name in download.ITEMS:
        section(source="published", published=[*{name, "coco"}], mirrors=mirrors)
    folders = {"captions": {}, **dict.fromkeys(READERS, "x")}
    assert section(folders=folders).folders.benchmarks == dict.fromkeys(READERS, "x")
    assert set(READERS) == {name for name in download.ITEMS if not DATASETS[name].captioned}


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"published": ["coco"]}, r"source is `drawn_world`: published must be \[\]"),
        ({"source": "published"}, "name at least one dataset"),
        ({"source": "published", "published": ["voc2007"]}, "or `published` list coco"),
        ({"source": "published", "published": ["coco", "coco"]}, "twice"),
        (
            {"source": "published", "published": ["cocoa"]},
            r"`download\.published\.0`: no such dataset, found 'cocoa' \(did you mean `coco`\?\)",
        ),
        (
            {"mirrors": {"voc2077": ["http://host/x"]}},
            r"unknown key `download\.mirrors\.voc2077` \(did you mean `voc2007`\?\)",
        ),
        (
            {"folders": SECTION["folders"] | {"imagnet": "x"}},
            r"unknown key `download\.folders\.imagnet` \(did you mean `imagenet`\?\)",
        ),
        (
            {"folders": SECTION["folders"] | {"coco": "x"}},
            r"unknown key `download\.folders\.coco` \(valid: voc2007, voc2012",
        ),
        ({"folders": SECTION["folders"] | {"lvis": 3}}, r"`download\.folders\.lvis`: .*string, found 3"),
        (
            {"source": "published", "published": ["coco"],
             "folders": SECTION["folders"] | {"captions": {"coco": "x"}}},
            "coco is both in published and in folders",
        ),
        (
            {"source": "published", "published": ["coco", "lvis"],
             "folders": SECTION["folders"] | {"lvis": "x"}},
            "lvis is both in published and in folders",
        ),
        ({"mirrors": SECTION["mirrors"] | {"coco": ["ftp://host"]}}, r"download\.mirrors\.coco"),
    ],
)  # fmt: skip
def test_sections_that_make_no_sense(changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        section(**changes)
