"""Writing scenes in the layout of the VOC2007 devkit."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from components.sources.drawn_world.drawing import ImageRecord, ObjectRecord
from components.sources.drawn_world.shapes import SHAPE_NAMES


def make_folders(voc_dir: Path) -> None:
    """Make the empty folders of one VOC year."""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (voc_dir / folder).mkdir(parents=True)


def image_name(number: int) -> str:
    """VOC's name of an image, without extension."""
    return f"{number:06d}"


def write_annotations(voc_dir: Path, numbers: Sequence[int], records: Sequence[ImageRecord]) -> None:
    """Write one XML file per image, boxes 1-based and inclusive."""
    for number, record in zip(numbers, records, strict=True):
        tree = _annotation(f"{image_name(number)}.jpg", record)
        ElementTree.indent(tree, space="\t")
        path = voc_dir / "Annotations" / f"{image_name(number)}.xml"
        path.write_text(ElementTree.tostring(tree, encoding="unicode") + "\n", encoding="utf-8")


def write_image_sets(
    voc_dir: Path, sets: Mapping[str, Sequence[int]], records: Mapping[int, ImageRecord]
) -> None:
    """Write ``<set>.txt`` and ``<class>_<set>.txt`` for every set.

    A class is 1 in an image where an object of it is not difficult, 0 where all of them are, -1
    where there is none.

    Args:
        voc_dir: folder of the VOC year.
        sets: image numbers of train, val, trainval and test.
        records: every image's record by its number.
    """
    main = voc_dir / "ImageSets" / "Main"
    for name, numbers in sets.items():
        (main / f"{name}.txt").write_text("".join(f"{image_name(n)}\n" for n in numbers), encoding="utf-8")
        for shape in SHAPE_NAMES:
            lines = [f"{image_name(n)} {_presence(shape, records[n]):2d}\n" for n in numbers]
            (main / f"{shape}_{name}.txt").write_text("".join(lines), encoding="utf-8")


def _presence(shape: str, record: ImageRecord) -> int:
    difficult = [item.difficult for item in record.objects if item.look.shape == shape]
    if not difficult:
        return -1
    return 0 if all(difficult) else 1


def _annotation(file_name: str, record: ImageRecord) -> ElementTree.Element:
    root = ElementTree.Element("annotation")
    _texts(root, folder="VOC2007", filename=file_name)
    source = ElementTree.SubElement(root, "source")
    _texts(source, database="Drawn world", annotation="PASCAL VOC2007", image="drawn")
    size = ElementTree.SubElement(root, "size")
    _texts(size, width=record.width, height=record.height, depth=3)
    _texts(root, segmented=0)
    for item in record.objects:
        root.append(_object(item))
    return root


def _object(item: ObjectRecord) -> ElementTree.Element:
    element = ElementTree.Element("object")
    _texts(
        element,
        name=item.look.shape,
        pose="Unspecified",
        truncated=int(item.truncated),
        difficult=int(item.difficult),
    )
    x, y, width, height = item.box
    box = ElementTree.SubElement(element, "bndbox")
    _texts(box, xmin=x + 1, ymin=y + 1, xmax=x + width, ymax=y + height)
    return element


def _texts(parent: ElementTree.Element, **values: str | int) -> None:
    for name, value in values.items():
        ElementTree.SubElement(parent, name).text = str(value)
