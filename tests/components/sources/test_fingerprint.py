"""Whatever is done to data of one's own shows, and nothing else does."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components import params
from components.core import paths
from components.params import read_section
from components.sources.fingerprint import NAMED_IMAGES, changed_sources, fingerprint, write_named
from components.sources.origins import OwnReading, verify_folders
from components.sources.readers.own.sample import OwnSettings
from components.sources.readers.types import DatasetFolders

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def download(**folders: Any) -> params.Download:
    section = read_section(params.Download, REPOSITORY / "params.yaml").model_dump()
    section |= {"source": "folders", "folders": section["folders"] | folders}
    return params.Download.model_validate(section)


def look(section: params.Download) -> list[str]:
    """Look as the stage does; the keys that changed."""
    changed = changed_sources(section)
    if changed:
        paths.DATA_SOURCES.parent.mkdir(exist_ok=True)
        paths.DATA_SOURCES.write_text(fingerprint(section), encoding="utf-8")
    return changed


def swapped_in_place(path: Path) -> None:
    status = path.stat()
    path.write_bytes(b"other")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def swapped_by_renaming(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"other")
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.rename(path)


@pytest.mark.parametrize(
    "change",
    [
        swapped_in_place,
        swapped_by_renaming,
        lambda path: path.unlink(),
        lambda path: path.rename(path.with_name("b.jpg")),
        lambda path: path.with_name("new.txt").write_text("A caption."),
        lambda path: os.utime(path, (1, 1)),
    ],
)
def test_every_change_below_a_folder_shows_once(here: Path, change: Callable[[Path], Any]) -> None:
    image = here / "voc" / "VOC2007" / "JPEGImages" / "a.jpg"
    image.parent.mkdir(parents=True)
    image.write_bytes(b"image")
    (here / "mine").mkdir()
    section = download(captions={"mine": "mine"}, voc2007="voc")
    assert look(section) == ["download.folders.captions.mine", "download.folders.voc2007"]
    assert look(section) == []
    change(image)
    assert look(section) == ["download.folders.voc2007"]
    assert look(section) == []


def test_links_are_followed_and_loops_end(here: Path) -> None:
    (here / "mine").mkdir()
    (here / "elsewhere").mkdir()
    image = here / "elsewhere" / "a.jpg"
    image.write_bytes(b"image")
    (here / "mine" / "linked").symlink_to(here / "elsewhere")
    (here / "elsewhere" / "back").symlink_to(here / "mine")
    (here / "mine" / "broken.jpg").symlink_to("nowhere")
    section = download(captions={"mine": "mine"})
    assert look(section)
    assert json.loads(fingerprint(section))["captions.mine"]["files"] <= 3
    image.write_bytes(b"other")
    assert look(section)
    assert not look(section)


def test_what_a_run_makes_beside_the_data_does_not_show(here: Path) -> None:
    section = download(captions={"mine": "."})
    look(section)
    for folder in ("data/lmdb", "outputs/pretrain", ".scratch", "mlartifacts"):
        (here / folder).mkdir(parents=True)
        (here / folder / "new").write_text("new")
    assert not look(section)


def test_archives_by_a_pattern_and_folders_that_are_missing(here: Path) -> None:
    section = download(captions={"mine": "shards/*.tar"}, imagenet="nowhere")
    look(section)
    (here / "shards").mkdir()
    (here / "shards" / "a.tar").write_bytes(b"tar")
    assert look(section) == ["download.folders.captions.mine"]
    (here / "nowhere" / "train").mkdir(parents=True)
    (here / "nowhere" / "train" / "a.jpg").write_bytes(b"image")
    assert look(section) == ["download.folders.imagenet"]
    assert not look(section)


def test_the_images_that_a_table_names_wherever_they_lie(here: Path) -> None:
    table, image = here / "mine.csv", here / "photographs" / "a.jpg"
    image.parent.mkdir()
    for name in ("a.jpg", "b.jpg"):
        image.with_name(name).write_bytes(b"image")
    rows = ["image,caption,split", f"{image},A dog.,train", "photographs/b.jpg,A cat.,val"]
    table.write_text("\n".join(rows) + "\n", encoding="utf-8")
    section = download(captions={"mine": "mine.csv"})

    def read() -> None:
        """As the stage datasets does."""
        own = OwnReading(OwnSettings("image", "caption", "split", 0.2, 0, 4), Path("data/datasets/captions"))
        manifest, _ = verify_folders(DatasetFolders({"mine": table}), "folders", own)
        write_named(section, manifest)

    key = ["download.folders.captions.mine"]
    assert look(section) == key
    assert not look(section)  # should the stage datasets fail
    read()
    assert not look(section)
    for change in (swapped_in_place, swapped_by_renaming, lambda path: path.unlink()):
        change(image)
        assert look(section) == key
        assert not look(section)
        image.write_bytes(b"image")
        read()
        look(section)
        assert not look(section)
    image.with_name("c.jpg").write_bytes(b"not in the table")
    assert not look(section)
    NAMED_IMAGES.unlink()
    assert look(section) == key
    table.write_text(table.read_text(encoding="utf-8").replace("dog", "fox"), encoding="utf-8")
    assert look(section) == key


def test_the_drawn_world_has_no_data_of_ones_own() -> None:
    assert json.loads(fingerprint(read_section(params.Download, REPOSITORY / "params.yaml"))) == {}
