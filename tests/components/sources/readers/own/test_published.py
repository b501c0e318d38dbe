"""Published tables of URLs are read from the very files that their authors give."""

import json
from pathlib import Path
from typing import Any

import pytest

from components.core.errors import InputError
from components.sources.layout import Tally
from components.sources.readers.own import dataset
from components.sources.readers.own.sample import OwnImage, OwnSettings


@pytest.fixture(autouse=True)
def in_empty_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(path: Path, tally: Tally | None = None, **settings: str) -> list[OwnImage]:
    chosen = OwnSettings(**settings)  # type: ignore[arg-type]
    return dataset._read(path, chosen, Path("data"), tally or Tally())[2]


def annotation(image_id: str, **changes: Any) -> dict[str, Any]:
    """As in the dataset's description, in the order of its files."""
    return {
        "image_id": image_id,
        "author": "somebody",
        "url": f"https://i.redd.it/{image_id}.jpg",
        "raw_caption": f"{image_id.title()} [OC]",
        "caption": image_id,
        "subreddit": "abandoned",
        "score": 12,
        "created_utc": 1488385801,
        "permalink": f"/r/abandoned/comments/{image_id}/",
    } | changes


INFO = {"start_date": "2017-01-01", "end_date": "2017-12-31", "url": "redcaps.xyz", "version": "1.0"}


def redcaps(folder: Path, name: str, *annotations: dict[str, Any], indent: int | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(json.dumps({"info": INFO, "annotations": annotations}, indent=indent))
    return path


@pytest.mark.parametrize("indent", [None, 1])
def test_one_file_of_redcaps(indent: int | None) -> None:
    same = annotation("again", url="https://i.redd.it/hall.jpg")
    path = redcaps(Path("a"), "abandoned_2017.json", annotation("hall"), same, indent=indent)
    (image,) = read(path)
    assert (image.url, image.captions) == ("https://i.redd.it/hall.jpg", ["hall", "again"])
    (raw,) = read(path, caption_column="raw_caption")
    assert raw.captions == ["Hall [OC]", "Again [OC]"]


@pytest.mark.parametrize("given", ["redcaps", "redcaps/annotations"])
def test_a_folder_of_redcaps_takes_the_images_that_are_there(given: str) -> None:
    """Names of files are no splits, even where a subreddit is called so."""
    folder = Path("redcaps/annotations")
    redcaps(folder, "abandoned_2017.json", annotation("hall"), annotation("mill"))
    redcaps(folder, "val_2020-01.json", annotation("pond", subreddit="val"))
    Path("redcaps/images/abandoned").mkdir(parents=True)
    Path("redcaps/images/abandoned/mill.jpg").write_bytes(b"JPEG")
    Path("redcaps/LICENSE.txt").write_text("CC BY")
    tally = Tally()
    assert dataset.is_own(Path(given))
    images = read(Path(given), tally)
    assert [(image.url and image.url[-8:], image.captions, image.split) for image in images] == [
        ("hall.jpg", ["hall"], None), (None, ["mill"], None), ("pond.jpg", ["pond"], None)
    ]  # fmt: skip
    assert images[1].path is not None
    assert images[1].path.read_bytes() == b"JPEG"
    others = {"redcaps": 1, "redcaps/annotations": 0}
    assert tally.left_out("files that are neither images nor the tables that are read") == others[given]


def test_coco_stays_coco() -> None:
    redcaps(Path("coco/annotations"), "captions_train2017.json")
    redcaps(Path("coco/annotations"), "mine_2017.json", annotation("hall"))
    assert not dataset.is_own(Path("coco"))
    Path("empty/annotations").mkdir(parents=True)
    assert not dataset.is_own(Path("empty"))


def test_an_annotation_that_is_not_redcaps_is_named() -> None:
    lacking = {key: value for key, value in annotation("mill").items() if key != "url"}
    path = redcaps(Path("a"), "abandoned_2017.json", annotation("hall"), lacking)
    with pytest.raises(InputError, match=r"abandoned_2017\.json: annotation 2: .*caption, image_id, url"):
        read(path)


PAIRS = [("http://static.flickr.com/1/a.jpg", "A dog"), ("http://static.flickr.com/1/b.jpg", 'a "cat, up')]


def test_sbu_in_one_object() -> None:
    path = Path("sbu-captions-all.json")
    urls, captions = zip(*PAIRS, strict=True)
    path.write_text(json.dumps({"image_urls": urls, "user_ids": ["1", "2"], "captions": captions}))
    assert [(image.url, *image.captions) for image in read(path)] == PAIRS
    path.write_text(json.dumps({"image_urls": urls, "captions": captions[:1]}))
    with pytest.raises(InputError, match="2 image_urls and 1 captions"):
        read(path)


def test_sbu_in_two_texts() -> None:
    """Characters that end a line elsewhere do not here: pairs would shift."""
    folder = Path("dataset")
    folder.mkdir()
    urls, captions = (folder / f"SBU_captioned_photo_dataset_{name}.txt" for name in ("urls", "captions"))
    urls.write_text("".join(f"{url}\n" for url, _ in PAIRS))
    captions.write_text("A\u2028dog\n" + f"{PAIRS[1][1]}\n")
    found = read(folder)
    assert [(image.url, *image.captions) for image in found] == [(PAIRS[0][0], "A\u2028dog"), PAIRS[1]]
    captions.write_text("A dog\n")
    with pytest.raises(InputError, match=r"captions\.txt: 1 lines, and .*urls\.txt has 2"):
        read(folder)


@pytest.mark.parametrize("flipped", [False, True])  # CC12M has the URL first
def test_conceptual_captions_have_no_header(flipped: bool) -> None:
    path = Path("Train_GCC-training.tsv")
    rows = [pair if flipped else pair[::-1] for pair in PAIRS]
    path.write_text("".join("\t".join(row) + "\n" for row in rows))
    assert [(image.url, *image.captions) for image in read(path)] == PAIRS
    assert [image.where for image in read(path)] == [f"{path}: row 1", f"{path}: row 2"]
    with path.open("a") as file:
        file.write("three\tcells\there\n")
    with pytest.raises(InputError, match=r"row 3: 3 cells, and the header has 2"):
        read(path)


def test_a_table_of_url_and_caption_needs_no_settings() -> None:
    path = Path("cc3m.csv")
    path.write_text(f"url,caption\n{PAIRS[0][0]},A dog\n")
    assert [(image.url, *image.captions) for image in read(path)] == PAIRS[:1]
