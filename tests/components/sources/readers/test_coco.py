from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.core.errors import InputError
from components.sources.layout import Tally
from components.sources.readers import coco
from components.sources.readers.types import CaptionedImage

Edit = Callable[[Path, Callable[[Any], Any]], None]


def test_captions_by_image_id(coco_root: Path) -> None:
    images = coco.read_captions(coco_root, "train", "mine")
    folder = coco_root / "train2017"
    assert images == [
        CaptionedImage("mine/2", "mine", folder / "000000000002.jpg", ("A two.\n",)),
        CaptionedImage("mine/10", "mine", folder / "000000000010.jpg", ("A ten.", "Second TEN")),
    ]


def test_text_ids_and_subfolders(coco_root: Path, edit: Edit) -> None:
    path = coco.annotation_path(coco_root, "captions", "train")

    def use_text(parsed: Any) -> None:
        for image in parsed["images"]:
            image["file_name"] = f"sub/{image['id']}.jpg"
            image["id"] = f"id{image['id']}"
        for annotation in parsed["annotations"]:
            annotation["image_id"] = f"id{annotation['image_id']}"

    edit(path, use_text)
    (coco_root / "train2017" / "sub").mkdir()
    for key in (2, 3, 10):
        (coco_root / "train2017" / "sub" / f"{key}.jpg").touch()
    assert [image.image_id for image in coco.read_captions(coco_root, "train", "d")] == ["d/id10", "d/id2"]


@pytest.mark.parametrize(
    ("breaking", "message"),
    [
        (
            lambda root: (root / "train2017" / "000000000003.jpg").unlink(),
            r"lists 3 images, of which 1 .*0003\.jpg",
        ),
        (
            lambda root: (root / "train2017").rename(root / "train2014"),
            r"train2017: no such folder .*train2014\?",
        ),
        (lambda root: (root / "annotations").rename(root / "annotation"), r"did you mean .*/annotation\?"),
        (lambda root: cut_short(root), r"captions_train2017\.json: broken JSON at line 1"),
        (lambda root: text(root, "[]"), "expected a list of records under the key `images`"),
        (lambda root: text(root, '{"images": [], "annotations": [3]}'), "under the key `annotations`"),
        (lambda root: text(root, '{"images": [], "annotations": []}'), "no image has a caption"),
        (lambda root: text(root, '{"images": [{"file_name": "a"}], "annotations": []}'), "no `id`"),
        (lambda root: text(root, '{"images": [{"id": 1}], "annotations": []}'), "no `file_name`"),
        (lambda root: text(root, '{"images": [{"id": 1}, {"id": 1}], "annotations": []}'), "occurs twice"),
        (
            lambda root: text(root, '{"images": [{"id": 1}, {"id": "1"}], "annotations": []}'),
            "like the others",
        ),
        (
            lambda root: (root / "annotations/captions_train2017.json").write_bytes(b"\x1f\x8b\xff"),
            "not UTF-8",
        ),
    ],
)
def test_broken_captions(coco_root: Path, breaking: Callable[[Path], Any], message: str) -> None:
    breaking(coco_root)
    with pytest.raises(InputError, match=message):
        coco.read_captions(coco_root, "train", "coco")


def text(root: Path, content: str) -> None:
    (root / "annotations/captions_train2017.json").write_text(content)


def cut_short(root: Path) -> None:
    path = root / "annotations/captions_train2017.json"
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p["annotations"][0].update(image_id=99), "image id 99"),
        (lambda p: p["annotations"][0].update(image_id=[2]), r"image id \[2\]"),
        (lambda p: p["annotations"][0].pop("caption"), "no `caption` text"),
        (lambda p: p["images"][0].update(file_name="../../secret.jpg"), "leads out of"),
        (lambda p: p["images"][0].update(file_name="/etc/passwd"), "leads out of"),
    ],
)
def test_inconsistent_captions(
    coco_root: Path, edit: Edit, change: Callable[[Any], Any], message: str
) -> None:
    edit(coco.annotation_path(coco_root, "captions", "val"), change)
    with pytest.raises(InputError, match=message):
        coco.read_captions(coco_root, "val", "coco")


def test_wrong_root_names_the_nearest(coco_root: Path) -> None:
    with pytest.raises(InputError, match=r"coc0: no such folder \(did you mean .*/coco\?\)"):
        coco.read_captions(coco_root.with_name("coc0"), "train", "coco")
    with pytest.raises(InputError, match=r"the folder .*/coc0 is missing too"):
        coco.read_instances(coco_root.with_name("coc0") / "deeper", "train")


def test_instances(coco_root: Path) -> None:
    parsed = coco.read_instances(coco_root, "train")
    assert len(parsed["annotations"]) == 2
    assert coco.count_objects(parsed) == {"dog": 2, "traffic light": 0}
    del parsed["categories"][0]["name"]
    assert coco.count_objects(parsed) == {"7": 2, "traffic light": 0}


@pytest.mark.parametrize(
    ("dataset", "split", "num_images", "num_captions"),
    [("coco", "train", 2421, 12110), ("coco", "val", 600, 3001), ("flickr8k", "val", 500, 2500)],
)
def test_real_captions(
    shared_dir: Path, dataset: str, split: str, num_images: int, num_captions: int
) -> None:
    images = coco.read_captions(shared_dir / "data" / "real" / dataset, split, dataset)
    assert len(images) == num_images
    assert sum(len(image.captions) for image in images) == num_captions
    numbers = [int(image.image_id.removeprefix(f"{dataset}/")) for image in images]
    assert numbers == sorted(numbers)


def test_real_instances(shared_dir: Path) -> None:
    parsed = coco.read_instances(shared_dir / "data" / "real" / "coco", "val")
    counts = coco.count_objects(parsed)
    assert (len(parsed["images"]), len(counts), sum(counts.values())) == (206, 80, 1786)


@pytest.mark.parametrize("kind", ["captions", "instances"])
def test_a_byte_order_mark_is_passed_over(coco_root: Path, kind: str) -> None:
    path = coco.annotation_path(coco_root, kind, "train")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(coco.read_captions(coco_root, "train", "mine")) == 2
    assert len(coco.read_instances(coco_root, "train")["annotations"]) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"images": ' + "[" * 100_000, "JSON nested too deeply"),
        ('{"images": ' + "9" * 5000 + "}", "unusable JSON"),
        ('\ufeff{"images": [{"id"', "broken JSON at line 1, column 18 .*cut short"),
    ],
)
def test_json_that_is_none(coco_root: Path, content: str, message: str) -> None:
    text(coco_root, content)
    with pytest.raises(InputError, match=rf"captions_train2017\.json: {message}"):
        coco.read_captions(coco_root, "train", "coco")


def test_what_is_dropped_or_changed_is_told(
    coco_root: Path, edit: Callable[[Path, Callable[[Any], Any]], None]
) -> None:
    path = coco.annotation_path(coco_root, "captions", "train")
    edit(path, lambda parsed: parsed["annotations"][0].update(caption="A \ud83d ten \U0001f436."))
    tally = Tally()
    images = coco.read_captions(coco_root, "train", "mine", tally.leave_out, tally.note)
    assert images[1].captions[0] == "A  ten \U0001f436."
    assert tally.line("mine", "2") == (
        f"mine: took 2; left out 1 blank captions (such as {path}: image 2), "
        f"1 images without a caption (such as {coco_root}/train2017/000000000003.jpg); "
        f"noted 1 captions of which half a character is taken away (such as {path}: image 10)"
    )
