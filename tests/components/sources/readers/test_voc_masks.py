"""VOC's masks of classes: read, and what is no such mask refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.core.errors import InputError
from components.sources.readers.types import DatasetFolders
from components.sources.readers.voc_masks import (
    has_masks,
    read_mask,
    read_masked_images,
    require_fitting_masks,
    verify_boxes_and_masks,
)

MASK = np.array([[0, 15, 255], [20, 0, 1]], np.uint8)
XML = (
    "<annotation><filename>{0}.jpg</filename><size><width>3</width><height>2</height></size>"
    "<object><name>dog</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></object>"
    "</annotation>"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """VOC2012 of two images to train on and one to validate."""
    folder = tmp_path / "VOC2012"
    for name in (
        "Annotations",
        "ImageSets/Main",
        "ImageSets/Segmentation",
        "JPEGImages",
        "SegmentationClass",
    ):
        (folder / name).mkdir(parents=True)
    splits = {"train": ("2007_000032", "2007_000039"), "val": ("2007_000033",)}
    for split, ids in splits.items():
        (folder / "ImageSets/Segmentation" / f"{split}.txt").write_text("\n".join(ids) + "\n")
        for image_id in ids:
            Image.new("RGB", (3, 2)).save(folder / "JPEGImages" / f"{image_id}.jpg")
            (folder / "Annotations" / f"{image_id}.xml").write_text(XML.format(image_id))
            mask = Image.fromarray(MASK, "L").convert("P")
            mask.putpalette([value % 256 for value in range(0, 768 * 7, 7)])
            mask.putdata(MASK.ravel().tolist())
            mask.save(folder / "SegmentationClass" / f"{image_id}.png")
    everything = [image_id for ids in splits.values() for image_id in ids]
    (folder / "ImageSets/Main/trainval.txt").write_text("\n".join(everything))
    return tmp_path


def test_indices_of_the_palette_are_classes(root: Path) -> None:
    assert has_masks(root)
    train = read_masked_images(root, "train")
    assert [path.name for path in train.image_paths] == ["2007_000032.jpg", "2007_000039.jpg"]
    assert np.array_equal(read_mask(train.mask_paths[1]), MASK)
    require_fitting_masks(train)


def test_verified_beside_the_boxes(root: Path) -> None:
    verified = verify_boxes_and_masks(root, DatasetFolders({}, {"voc2012": root}))
    assert verified.figures == {
        "trainval": {"images": 3}, "segmentation_train": {"images": 2}, "segmentation_val": {"images": 1}
    }  # fmt: skip
    assert [path.name for path in verified.files["segmentation_val"]] == [
        "2007_000033.jpg",
        "2007_000033.png",
    ]
    assert [path.name for path in verified.annotations] == ["trainval.txt", "train.txt", "val.txt"]


def test_boxes_alone_are_as_before(root: Path) -> None:
    (root / "VOC2012/SegmentationClass").rename(root / "VOC2012/elsewhere")
    assert not has_masks(root)
    verified = verify_boxes_and_masks(root, DatasetFolders({}, {"voc2012": root}))
    assert verified.figures == {"trainval": {"images": 3}}


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (Image.new("RGB", (3, 2)), r"000033\.png: a picture in mode RGB; expected a palette PNG"),
        (Image.new("P", (2, 3)), r"000033\.png: 2 x 3 pixels, but its image has 3 x 2"),
        (b"", r"000033\.png: no picture that can be read \("),
        (None, r"val\.txt: lists 1 masks, of which 1 are absent: .*000033\.png"),
    ],
)
def test_what_is_no_mask_is_refused(root: Path, made: Image.Image | bytes | None, message: str) -> None:
    path = root / "VOC2012/SegmentationClass/2007_000033.png"
    path.unlink()
    if isinstance(made, bytes):
        path.write_bytes(made)
    elif made is not None:
        made.save(path)
    with pytest.raises(InputError, match=message):
        verify_boxes_and_masks(root, DatasetFolders({}, {"voc2012": root}))


def test_a_mask_cut_short_is_refused(root: Path) -> None:
    path = root / "VOC2012/SegmentationClass/2007_000033.png"
    Image.effect_noise((64, 64), 90).save(path)
    path.write_bytes(path.read_bytes()[:-600])
    with pytest.raises(InputError, match=r"000033\.png: a damaged mask \("):
        read_mask(path)
