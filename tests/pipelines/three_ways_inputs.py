"""The inputs of test_reports_three_ways.py: what each should come to, and the cousins of the reports."""

import gzip
import io
import json
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

CAPTIONS = (
    "a red dog runs on green grass", "two cats sit on a blue sofa", "a man rides a bike down a street",
    "a plate of food on a wooden table", "a bird flies over the water", "children play with a yellow ball",
)  # fmt: skip
NAMES = [f"{letter}.jpg" for letter in "abcdef"]

# What there is to read of each report, and a pattern of the line that says so.
REPORTS = {
    "csv_dup_header": ("captions.csv", "took 6 images and 12 captions; left out nothing"),
    "csv_trailing_comma": ("captions.csv", "took 6 images and 6 captions; .*6 rows with a blank cell"),
    "hf_imagefolder": ("photos", "took 6 images and 6 captions; left out nothing"),
    "jsonl_surrogate": ("captions.jsonl", "took 6 images and 6 captions; .*1 captions of which half a"),
    "parquet_hf_bytes": ("captions.parquet", "took 6 images and 6 captions; left out nothing"),
    "sidecar_bom": ("photos", "took 6 images and 6 captions; left out nothing"),
    "sidecar_hidden": ("photos", "took 3 images and 3 captions; left out 2 hidden or companion"),
    "sidecar_only_jfif": ("photos", "took 3 images and 3 captions; left out nothing"),
    "sidecar_upper": ("photos", "took 5 images and 5 captions; left out nothing"),
    "tar_dots": ("shards", "took 6 images and 6 captions; left out nothing"),
    "tsv_quote_swallow": ("captions.tsv", "took 6 images and 6 captions; .*2 rows whose quotes"),
    "coco_bom": ("", "took 9 images and 9 captions; left out nothing"),
    "coco_no_area": ("", "took 9 images and 9 captions; left out nothing"),
    "coco_box_outside": ("", "took 9 images and 9 captions; left out nothing"),
    "coco_empty_segmentation": ("", "took 9 images and 9 captions; left out nothing"),
}
BMP, IMAGES, VOC, IMAGENET = "bmp_replaced", "images", "voc_swapped_box", "inet_appledouble"
TOLD_OF_OBJECTS = (
    "coco_no_area/.*: 6 without `area`, computed",
    "coco_box_outside/.*: 1 outside the image, left out",
    "coco_empty_segmentation/.*: 1 without a mask",
    "voc_swapped_box/.*: 1 with swapped corners, put right",
    "imagenet: took 18 images of 3 classes; left out 4 hidden or companion files",
)
REFUSED = {
    "csv_columns_swapped": ("captions.csv", "row 2: no such image: .*wrong way round"),
    "coco_rle_wrong_size": ("", r"instances_train2017.json: .*\[64, 72\], not \[72, 64\]"),
}


def picture(value: int) -> bytes:
    content = io.BytesIO()
    Image.fromarray(np.full((40, 48, 3), value, np.uint8)).save(content, "JPEG")
    return content.getvalue()


def whitened(path: Path) -> None:
    """Make an image white, in its own format and size."""
    with Image.open(path) as image:
        Image.new(image.mode, image.size, "white").save(path)


def photos(folder: Path, names: Sequence[str] = NAMES) -> Path:
    folder.mkdir(parents=True)
    for number, name in enumerate(names):
        (folder / name).write_bytes(picture(20 + 30 * number))
    return folder


def table(folder: Path, name: str, content: bytes) -> str:
    (photos(folder) / name).write_bytes(content)
    return name


def delimited(separator: str = ",", end: str = "\n", names: Sequence[str] = NAMES) -> str:
    rows = [("image", "caption"), *zip(names, CAPTIONS, strict=False)]
    return "".join(separator.join(row) + end for row in rows)


def records(names: Sequence[str] = NAMES) -> list[dict[str, str]]:
    return [{"image": name, "caption": text} for name, text in zip(names, CAPTIONS, strict=False)]


def archive(folder: Path, members: dict[str, bytes], keep: int | None = None) -> str:
    (folder / "shards").mkdir(parents=True)
    with tarfile.open(folder / "shards" / "x.tar", "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    whole = (folder / "shards" / "x.tar").read_bytes()
    (folder / "shards" / "x.tar").write_bytes(whole[:keep])
    return "shards"


def samples(image: str = ".jpg", text: str = ".txt") -> dict[str, bytes]:
    numbered = list(enumerate(CAPTIONS))
    return {f"{n}{image}": picture(20 * n) for n, _ in numbered} | {
        f"{n}{text}": caption.encode() for n, caption in numbered
    }


def mixed_case(folder: Path) -> str:
    names = ["a.JpG", "b.JPEG", "c.Jfif", "d.jPe"]
    photos(folder / "photos", names)
    for name, caption in zip(names, CAPTIONS, strict=False):
        (folder / "photos" / f"{name[0]}.TxT").write_text(caption)
    return "photos"


def odd_names(folder: Path) -> str:
    names = [
        "-rf.jpg",
        "a b.jpg",
        "100%20#1.jpg",
        "=cmd.jpg",
        "two\nlines.jpg",
        "é😀.jpg",
        f"{'x' * 200}.jpg",
    ]
    photos(folder / "photos", names)
    for name in names:
        (folder / "photos" / f"{name[:-4]}.txt").write_text(f"a picture called {len(name)}")
    return "photos"


def coco(folder: Path, **change: object) -> str:
    """Captions, and objects of which the first is changed."""
    (folder / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        photos(folder / f"{split}2017")
        images = [
            {"id": n, "file_name": name, "width": 48, "height": 40} for n, name in enumerate(NAMES)
        ]  # fmt: skip
        texts = [{"id": n, "image_id": n, "caption": caption} for n, caption in enumerate(CAPTIONS)]
        things = [
            {"id": n, "image_id": n, "category_id": 1, "iscrowd": 0, "area": 81, "bbox": [1, 1, 9, 9],
             "segmentation": [[1, 1, 10, 1, 10, 10, 1, 10]]} for n in range(6)
        ]  # fmt: skip
        things[0] |= change
        for kind, annotations in (("captions", texts), ("instances", things)):
            whole = {
                "images": images, "annotations": annotations, "categories": [{"id": 1, "name": "half \ud83d"}]
            }  # fmt: skip
            (folder / "annotations" / f"{kind}_{split}2017.json").write_text(json.dumps(whole))
    return ""


# Each draws itself into a folder and returns what to name of it.
COUSINS: dict[str, tuple[Callable[[Path], str], str]] = {
    "cr_ends": (lambda d: table(d, "x.csv", delimited(end="\r").encode()), "took 6 images and 6 captions"),
    "nul_in_text": (
        lambda d: table(d, "x.tsv", delimited("\t").replace("cats", "c\0ats").encode()),
        "took 6 images and 6 captions",
    ),
    "rows_twice": (
        lambda d: table(d, "x.csv", delimited(names=[*NAMES[:3], "./a.jpg", ".//b.jpg"]).encode()),
        "took 3 images and 5 captions; left out nothing",
    ),
    "json_gz": (
        lambda d: table(d, "X.JSON.GZ", gzip.compress(json.dumps(records(), indent=1).encode(), mtime=0)),
        "took 6 images and 6 captions; left out nothing",
    ),
    "mixed_case": (mixed_case, "took 4 images and 4 captions; left out nothing"),
    "odd_names": (odd_names, "took 7 images and 7 captions; left out nothing"),
    "tar_mixed_case": (
        lambda d: archive(d, samples(".JpG", ".Txt")),
        "took 6 images and 6 captions; left out nothing",
    ),
    "tar_in_tar": (
        lambda d: archive(d, samples() | {"inner.tar": b"any"}),
        "took 6 images and 6 captions; left out 1 files that are neither",
    ),
    "coco_far_box": (lambda d: coco(d, bbox=[40, 30, 1e300, 1e300], area="81"), "took 12 images"),
}
REFUSED_COUSINS: dict[str, tuple[Callable[[Path], str], str]] = {
    "utf_16": (lambda d: table(d, "x.tsv", delimited("\t").encode("utf-16")), "not UTF-8 text"),
    "semicolons": (lambda d: table(d, "x.csv", delimited(";").encode()), "as if ';' parted the cells"),
    "tar_cut": (lambda d: archive(d, samples(), 6 * 1024 + 300), "x.tar: damaged"),
    "nan_box": (lambda d: coco(d, bbox=[1, 1, float("nan"), 9]), "`bbox` must be .*finite"),
}
