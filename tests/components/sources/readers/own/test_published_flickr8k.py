"""Flickr8k in the layout of its own archives, from the archives to the captions that are trained on."""

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from components import params
from components.core import paths
from components.core.datasets import DATASETS
from components.core.errors import InputError
from components.params import read_section
from components.params.reading import check_section
from components.sources.manifest import read_manifest
from components.sources.readers.own.dataset import read_own
from components.sources.readers.own.sample import OwnSettings
from components.stages import datasets, download
from components.tracking import StageRun

REPOSITORY = Path(__file__).resolve().parents[5]
PARAMS = REPOSITORY / "params.yaml"
LISTED = {"train": ("a", "b"), "dev": ("c",), "test": ("d",)}


@pytest.fixture
def flickr8k(tmp_path: Path) -> Path:
    """Four listed images with two captions each; one of no list, and a caption of an image that is absent."""
    root = tmp_path / "Flickr8k"
    (root / "Flicker8k_Dataset").mkdir(parents=True)
    for name in (*"abcde",):
        (root / "Flicker8k_Dataset" / f"{name}.jpg").write_bytes(name.encode())
    lines = [f"{name}.jpg#{i}\tCaption {i} of {name} .\n" for name in "dcbae" for i in (0, 1)]
    (root / "Flickr8k.token.txt").write_text("".join([*lines, "f.jpg.1#0\tGone .\n"]), encoding="utf-8")
    for split, names in LISTED.items():
        written = "".join(f"{name}.jpg\n" for name in names)
        (root / f"Flickr_8k.{split}Images.txt").write_text(written, encoding="utf-8")
    (root / "readme.txt").write_text("Read me.", encoding="utf-8")
    return root


def read(root: Path, tmp_path: Path, skip: bool = False):  # type: ignore[no-untyped-def]
    return read_own(root, "flickr8k", OwnSettings(), tmp_path / "index", skip)


def test_the_lists_are_the_splits(flickr8k: Path, tmp_path: Path) -> None:
    found = read(flickr8k, tmp_path)
    images = {split: {one.image_id: one.captions for one in of} for split, of in found.splits.items()}
    assert images == {
        "train": {f"flickr8k/{n}.jpg": (f"Caption 0 of {n} .", f"Caption 1 of {n} .") for n in "ab"},
        "val": {"flickr8k/c.jpg": ("Caption 0 of c .", "Caption 1 of c .")},
    }
    assert (found.testing, found.without_captions) == (1, 0)
    assert "took 3 images and 6 captions" in found.summary
    assert "2 images that are in no split's list (such as e.jpg)" in found.summary
    assert "1 files that are neither images nor the texts that are read" in found.summary
    assert [path.name for path in found.sources] == [
        "Flickr8k.token.txt", *(f"Flickr_8k.{split}Images.txt" for split in LISTED),
    ]  # fmt: skip


def without_list(root: Path) -> None:
    (root / "Flickr_8k.devImages.txt").unlink()


def with_twice_listed(root: Path) -> None:
    (root / "Flickr_8k.devImages.txt").write_text("c.jpg\na.jpg\n")


def with_broken_line(root: Path) -> None:
    (root / "Flickr8k.token.txt").write_text("a.jpg#0\tA dog .\na.jpg A cat .\n")


def without_image(root: Path) -> None:
    (root / "Flicker8k_Dataset" / "b.jpg").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without_list, r"Flickr_8k\.devImages\.txt: no such file"),
        (with_twice_listed, r"devImages\.txt: line 2: 'a\.jpg' is in Flickr_8k\.trainImages\.txt too"),
        (with_broken_line, r"token\.txt: line 2: expected an image, #, .* found 'a\.jpg A cat \.'"),
        (without_image, r"trainImages\.txt: line 2: no such image: b\.jpg"),
    ],
)
def test_what_is_broken_is_named(
    flickr8k: Path, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(flickr8k)
    with pytest.raises(InputError, match=message):
        read(flickr8k, tmp_path)


def test_an_absent_image_can_be_skipped(flickr8k: Path, tmp_path: Path) -> None:
    without_image(flickr8k)
    found = read(flickr8k, tmp_path, skip=True)
    assert [image.image_id for image in found.splits["train"]] == ["flickr8k/a.jpg"]
    assert [one.image for one in found.left_out] == ["b.jpg"]


@pytest.mark.integration
def test_from_archives_to_captions(flickr8k: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    incoming = paths.INCOMING_DIR / "flickr8k"
    incoming.mkdir(parents=True)
    archives = []
    for archive, below in zip(DATASETS["flickr8k"].archives, ("Flicker8k_Dataset/*", "*.txt"), strict=True):
        with zipfile.ZipFile(incoming / archive.name, "w") as file:
            for path in sorted(flickr8k.glob(below)):
                file.write(path, path.relative_to(flickr8k))
        md5 = hashlib.md5((incoming / archive.name).read_bytes()).hexdigest()
        archives.append(replace(archive, md5=md5))
    shutil.rmtree(flickr8k)
    monkeypatch.setitem(DATASETS, "flickr8k", replace(DATASETS["flickr8k"], archives=tuple(archives)))

    shipped = YAML(typ="safe").load(PARAMS.read_text(encoding="utf-8"))["download"]
    section = check_section(
        params.Download, shipped | {"source": "published", "published": ["flickr8k"]}, PARAMS
    )
    assert section.captioned_datasets == ["flickr8k"]
    download.main(stage_run("download", "flickr8k"), section)
    lmdb = params.Lmdb(short_side=None, jpeg_quality=95, decoded=False, on_unreadable="refuse")
    segmentation = read_section(params.CocoSegmentation, PARAMS)
    with pytest.raises(InputError, match=r"download@flickr8k: train has 2 images, expected 6,000"):
        datasets.main(stage_run("datasets"), section, lmdb, segmentation)
    counts = {"train": {"images": 2, "captions": 4}, "val": {"images": 1, "captions": 2}}
    monkeypatch.setitem(DATASETS, "flickr8k", replace(DATASETS["flickr8k"], counts=counts))
    datasets.main(stage_run("datasets"), section, lmdb, segmentation)
    figures = json.loads((paths.stage_dir("datasets") / "metrics.json").read_text())
    assert figures["captions"]["flickr8k"]["for_testing"] == 1
    (image,) = read_manifest(paths.dataset_part("captions")).captions_of("val", "flickr8k")
    assert image.captions == ("Caption 0 of c .", "Caption 1 of c .")
    shutil.rmtree(paths.UNPACKED_DIR)
    (image,) = read_manifest(paths.dataset_part("captions")).captions_of("val", "flickr8k")
    assert image.read_bytes() == b"c"


def stage_run(stage: str, item: str | None = None) -> StageRun:
    output_dir = paths.stage_dir(stage, item)
    output_dir.mkdir(parents=True, exist_ok=True)
    return StageRun(stage, item, output_dir, None)
