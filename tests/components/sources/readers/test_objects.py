"""Objects as people's tools write them: put right, left out and told, or refused with the record."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as run_lengths

from components.benchmarks.detection.data import read_coco, read_voc
from components.core.errors import InputError
from components.sources.readers import coco, voc
from components.sources.readers.objects import FARTHEST, Notes, _runs, mend_objects

PATH = Path("instances.json")
WIDTH, HEIGHT = 20, 10
NAN, INFINITY = float("nan"), float("inf")


def polygon(left: float, top: float, right: float, bottom: float) -> list[list[float]]:
    return [[left, top, right, top, right, bottom, left, bottom]]


def objects(*changes: dict[str, Any], **image: Any) -> dict[str, Any]:
    """A good object for each change, 6 by 4 pixels; a change to None takes the key away."""
    good = {"bbox": [2, 3, 6, 4], "area": 24.0, "iscrowd": 0, "segmentation": polygon(2, 3, 8, 7)}
    annotations = [
        {"id": number, "image_id": 1, "category_id": 7, **good, **change}
        for number, change in enumerate(changes, 100)
    ]
    return {
        "images": [{"id": 1, "width": WIDTH, "height": HEIGHT, **image}],
        "categories": [{"id": 7, "name": "dog"}],
        "annotations": [{key: item[key] for key in item if item[key] != "gone"} for item in annotations],
    }


def mended(*changes: dict[str, Any], **image: Any) -> tuple[list[dict[str, Any]], str]:
    parsed = json.loads(json.dumps(objects(*changes, **image)))  # NaN and Infinity as Python writes them
    line = str(mend_objects(PATH, parsed))
    return parsed["annotations"], line


def mask() -> np.ndarray:
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    pixels[3:7, 2:8] = 1
    pixels[4, 4] = 0
    return pixels


def text_runs() -> dict[str, Any]:
    encoded = run_lengths.encode(mask())
    return {"size": [HEIGHT, WIDTH], "counts": encoded["counts"].decode()}


def plain_runs() -> dict[str, Any]:
    flat = mask().flatten(order="F").tolist()
    changes = [0, *[i for i in range(1, len(flat)) if flat[i] != flat[i - 1]], len(flat)]
    return {"size": [HEIGHT, WIDTH], "counts": np.diff(changes).tolist()}


def test_good_objects_stay_as_they_are() -> None:
    found, line = mended({}, {"segmentation": text_runs()}, {"segmentation": plain_runs(), "iscrowd": 1})
    assert (len(found), line) == (3, "")
    assert found[0]["bbox"] == [2, 3, 6, 4]


@pytest.mark.parametrize(
    ("segmentation", "area"),
    [(polygon(2, 3, 8, 7), 24), (text_runs(), 23), (plain_runs(), 23)],
)
@pytest.mark.parametrize("given", ["gone", None, "24", NAN, -1])
def test_a_missing_area_is_that_of_the_mask(segmentation: Any, area: float, given: Any) -> None:
    found, line = mended({"segmentation": segmentation, "area": given})
    assert found[0]["area"] == area
    assert line == "instances.json: objects: 1 without `area`, computed (such as id 100)"


@pytest.mark.parametrize(
    ("box", "kept"),
    [
        ([-3, 3, 6, 4], [0, 3, 3, 4]),
        ([16, 8, 6, 4], [16, 8, 4, 2]),
        ([-100, -100, 500, 500], [0, 0, WIDTH, HEIGHT]),
        ([14, 3, 6.5, 4], [14, 3, 6.5, 4]),  # published boxes are rounded so
    ],
)
def test_boxes_are_clipped(box: list[float], kept: list[float]) -> None:
    found, line = mended({}, {"bbox": box})
    assert found[1]["bbox"] == kept
    assert (line == "") == (box == kept)
    assert line == "" or "1 reaching out of the image, clipped to it (such as id 101)" in line


@pytest.mark.parametrize("box", [[20, 3, 6, 4], [100, 3, 6, 4], [2, -9, 6, 4], [-6, 3, 6, 4]])
def test_boxes_outside_are_left_out(box: list[float]) -> None:
    found, line = mended({}, {"bbox": box}, {"bbox": box})
    assert [item["id"] for item in found] == [100]
    assert line == "instances.json: objects: 2 outside the image, left out (such as id 101)"


def test_categories_of_one_name_are_told_apart() -> None:
    """As some tools export them: a class, and a group of its name."""
    parsed = objects({})
    parsed["categories"] = [
        {"id": 7, "name": "dog"},
        {"id": 9, "name": "dog"},
        {"id": 3},
        {"id": 4, "name": "3"},
    ]
    notes = mend_objects(PATH, parsed)
    assert [category["name"] for category in parsed["categories"]] == [
        "dog (id 7)",
        "dog (id 9)",
        "3 (id 3)",
        "3 (id 4)",
    ]
    assert str(notes).endswith(
        "objects: categories of one name, told apart: dog (id 7), dog (id 9), 3 (id 3), 3 (id 4)"
    )
    assert coco.count_objects(parsed) == {"dog (id 7)": 1, "dog (id 9)": 0, "3 (id 3)": 0, "3 (id 4)": 0}
    again = mend_objects(PATH, parsed)
    assert str(again) == ""


@pytest.mark.parametrize(
    ("given", "name"), [("a \ud83d dog", "a  dog"), ("\ud83d", "7"), ("", "7"), (None, "7"), (5, "5")]
)
def test_names_of_categories_are_such_as_files_take(given: Any, name: str) -> None:
    parsed = objects({})
    parsed["categories"] = [{"id": 7, "name": given}]
    assert coco.count_objects(parsed) == {name: 1}
    mend_objects(PATH, parsed)
    assert parsed["categories"][0]["name"] == name


@pytest.mark.parametrize("absent", ["gone", None, []])
def test_an_object_without_a_mask_among_others_is_left_out(absent: Any) -> None:
    found, line = mended({}, {"segmentation": absent})
    assert [item["id"] for item in found] == [100]
    assert "1 without a mask (`segmentation`), left out (such as id 101)" in line


@pytest.mark.parametrize("absent", ["gone", None, []])
def test_where_nothing_has_a_mask_all_stay(absent: Any) -> None:
    found, line = mended({"segmentation": absent, "area": None}, {"segmentation": absent})
    assert [item["area"] for item in found] == [24, 24]
    assert "none has a mask (`segmentation`), so segmentation cannot be measured" in line


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"category_id": 1}, "category that `categories` lacks"),
        ({"image_id": 2}, "image that `images` lacks"),
        ({"id": 100}, "occurs twice in `annotations`"),
        *[
            ({"bbox": box}, "`bbox` must be [x, y, width, height]")
            for box in ("gone", None, [], [0, 0, 1], [0, 0, -1, 1], [9, 0, 5, -3], [NAN, 0, 1, 1],
                        [0, 0, INFINITY, 1], [0, 0, "4", 4], [0, None, 4, 4], {"x": 1})
        ],
        ({"iscrowd": "0"}, "`iscrowd` must be 0 or 1"),
        ({"segmentation": [[0, 0, 1, 1]]}, "a polygon has 4 numbers"),
        ({"segmentation": [[0, 0, 1, 1, 2, 2, 3]]}, "a polygon has 7 numbers"),
        ({"segmentation": [0, 0, 1, 0, 1, 1]}, "and is neither"),
        ({"segmentation": "82404"}, "and is neither"),
        ({"segmentation": polygon(0, 0, NAN, 4)}, "not all finite"),
        ({"segmentation": [[0, 0, 1, "0", 1, 1]]}, "not all finite"),
        ({"segmentation": polygon(0, 0, 10 * FARTHEST, 4)}, "reaches more than 100000 pixels away"),
        ({"segmentation": text_runs() | {"size": [WIDTH, HEIGHT]}}, "[10, 20], not [20, 10]"),
        ({"segmentation": plain_runs() | {"size": [WIDTH, HEIGHT]}}, "[10, 20], not [20, 10]"),
        ({"segmentation": {"counts": [200]}}, "[10, 20], not None"),
        ({"segmentation": plain_runs() | {"counts": [150]}}, "cover 150 pixels of 200"),
        ({"segmentation": plain_runs() | {"counts": [250, -50]}}, "`counts` are broken"),
        ({"segmentation": text_runs() | {"counts": ""}}, "cover 0 pixels of 200"),
        ({"segmentation": text_runs() | {"counts": text_runs()["counts"][:-2]}}, "pixels of 200"),
        ({"segmentation": text_runs() | {"counts": "é 4"}}, "`counts` are broken"),
        ({"segmentation": text_runs() | {"counts": None}}, "`counts` are broken"),
    ],
)  # fmt: skip
def test_what_cannot_be_understood_is_refused_with_its_record(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as raised:
        mended({}, change)
    assert str(raised.value).startswith("instances.json: ")
    if "id" not in change:
        assert "'id': 101" in str(raised.value)


@pytest.mark.parametrize(
    "size", [{"width": None}, {"height": 0}, {"width": "20"}, {"height": NAN}, {"width": 2.5}]
)
def test_images_need_a_size(size: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"instances\.json: an image has no `width` and `height`.*'id': 1"):
        mended({}, **size)


def test_text_runs_are_read_as_pycocotools_writes_them() -> None:
    rng = np.random.default_rng(0)
    for height, width in ((1, 1), (7, 300), (400, 300)):
        for density in (0.0, 0.01, 0.5, 1.0):
            pixels = np.asfortranarray(rng.random((height, width)) < density, dtype=np.uint8)
            runs = _runs(run_lengths.encode(pixels)["counts"].decode())
            assert runs is not None
            again = run_lengths.frPyObjects({"size": [height, width], "counts": runs}, height, width)
            assert (run_lengths.decode(again) == pixels).all()
            assert sum(runs) == height * width


def voc_file(folder: Path, *corners: tuple[float, float, float, float], size: str = "72") -> Path:
    things = "".join(
        f"<object><name>dog</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax>"
        "</bndbox></object>"
        for a, b, c, d in corners
    )
    path = folder / "one.xml"
    path.write_text(
        f"<annotation><filename>one.jpg</filename><size><width>{size}</width><height>64</height></size>"
        f"{things}</annotation>"
    )
    return path


@pytest.mark.parametrize(
    ("corners", "box", "note"),
    [
        ((5, 6, 40, 50), (5, 6, 40, 50), ""),
        ((45.70000076293945, 6, 60.3, 50), (45.70000076293945, 6, 60.3, 50), ""),
        ((7, 7, 7, 7), (7, 7, 7, 7), ""),  # one pixel
        ((40, 50, 5, 6), (5, 6, 40, 50), "1 with swapped corners, put right (such as one.xml)"),
        ((40, 6, 5, 50), (5, 6, 40, 50), "1 with swapped corners, put right (such as one.xml)"),
        ((0, 6, 40, 50), (1, 6, 40, 50), "1 reaching out of the image, clipped to it (such as one.xml)"),
        ((5, 6, 80, 70), (5, 6, 72, 64), "1 reaching out of the image, clipped to it (such as one.xml)"),
        ((80, 6, 90, 50), None, "1 outside the image, left out (such as one.xml)"),
    ],
)
def test_voc_boxes(tmp_path: Path, corners: Any, box: Any, note: str) -> None:
    notes = Notes(Path("Annotations"))
    annotation = voc.read_annotation(voc_file(tmp_path, corners), notes)
    assert [thing.box for thing in annotation.objects] == ([] if box is None else [box])
    assert str(notes) == (f"Annotations: objects: {note}" if note else "")


@pytest.mark.parametrize(
    ("corner", "size"), [("nan", "72"), ("inf", "72"), (5, "0"), (5, "-3"), ("five", "72")]
)
def test_voc_numbers_that_are_none(tmp_path: Path, corner: Any, size: str) -> None:
    with pytest.raises(InputError, match=r"one\.xml: broken annotation: "):
        voc.read_annotation(voc_file(tmp_path, (corner, 1, 9, 9), size=size))


@pytest.fixture
def report(shared_dir: Path) -> Callable[[str], Path]:
    return lambda name: shared_dir / "reports" / name


@pytest.mark.parametrize(
    ("name", "line", "objects"),
    [
        ("coco_no_area", "6 without `area`, computed (such as id 100)", 6),
        ("coco_box_outside", "1 outside the image, left out (such as id 100)", 5),
        ("coco_empty_segmentation", "1 without a mask (`segmentation`), left out (such as id 100)", 5),
    ],
)
def test_reported_objects(
    report: Callable[[str], Path], name: str, line: str, objects: int, capsys: pytest.CaptureFixture[str]
) -> None:
    parsed = coco.read_instances(report(name), "train")
    assert line in capsys.readouterr().out
    assert len(parsed["annotations"]) == objects
    assert all(annotation["area"] == 576 for annotation in parsed["annotations"])
    split = read_coco(report(name), "train")
    assert split.has_masks
    assert capsys.readouterr().out == ""


def test_reported_run_lengths_of_another_size(report: Callable[[str], Path]) -> None:
    with pytest.raises(
        InputError, match=r"instances_train2017\.json: .*\[64, 72\], not \[72, 64\].*'id': 100"
    ):
        coco.read_instances(report("coco_rle_wrong_size"), "train")


def test_reported_bom(report: Callable[[str], Path]) -> None:
    assert len(coco.read_captions(report("coco_bom"), "train", "mine")) == 6


def test_reported_swapped_box(report: Callable[[str], Path]) -> None:
    split = read_voc({2007: report("voc_swapped_box")}, ["2007/trainval"])
    assert split.images[0].objects[0].box == (4, 4, 40, 40)
