"""Drawing the whole world: each dataset's scenes and its files, one layout after another.

Captioned pictures are in the layouts of COCO and LVIS (components.sources.drawn_world.coco), the others in
those of the VOC2007 devkit, ImageNet and iNaturalist 2018.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from components.core.files import writing
from components.params import DrawnWorld
from components.sources.drawn_world import coco
from components.sources.drawn_world.compose import SceneStyle
from components.sources.drawn_world.drawing import Drawing, ImageRecord, ObjectRecord, Studio, studio
from components.sources.drawn_world.shapes import SHAPE_NAMES, SHAPES, TEXTURES

STREAMS = {
    name: number
    for number, name in enumerate(
        ("coco/train", "coco/val", "voc/trainval", "voc/test", "imagenet/train", "imagenet/val",
         "inaturalist/train", "inaturalist/val")
    )
}  # fmt: skip

# Mostly one object: a caption then tells which word its shape goes by, which a run of minutes can learn.
COUNTS = (0.75, 0.25)
CAPTIONED = SceneStyle(COUNTS, crowd_share=0.05)
CLASSIFIED = SceneStyle(COUNTS, hard_share=0.08)

TAIL_EXPONENT = 0.9


@dataclass(frozen=True, slots=True)
class Species:
    """A fine-grained class: a shape with a texture, whatever its colour."""

    number: int
    name: str
    family: str
    shape: str
    texture: str


SPECIES: tuple[Species, ...] = tuple(
    Species(number, f"{texture} {shape.name}", shape.family, shape.name, texture)
    for number, (shape, texture) in enumerate((shape, texture) for shape in SHAPES for texture in TEXTURES)
)
WORDNET_IDS: dict[str, str] = {shape.name: f"n{number:08d}" for number, shape in enumerate(SHAPES, start=1)}


def classified(index: int) -> SceneStyle:
    """Return the style of VOC's image ``index``: the shapes take turns, so that a small set has them all."""
    return replace(CLASSIFIED, first_shape=SHAPE_NAMES[index % len(SHAPE_NAMES)])


def draw_world(settings: DrawnWorld, root: Path, num_workers: int, progress: bool = True) -> None:
    """Draw the datasets below ``root``, the same bytes for the same settings.

    Writes ``coco/``, ``lvis/``, ``voc2007/VOCdevkit/VOC2007/``, ``imagenet/`` and ``inaturalist/``, each
    whole or not at all; VOC, ImageNet and iNaturalist are left out where their counts are all 0.

    Args:
        settings: the section ``download.drawn_world`` of params.yaml.
        root: folder to write to; made if absent.
        num_workers: drawing processes; the result does not depend on it.
        progress: whether to show a progress bar on stderr.
    """
    root.mkdir(parents=True, exist_ok=True)
    with studio(num_workers, _num_images(settings), progress) as workers:
        _draw_captioned(settings, root, workers)
        if settings.voc_trainval_images + settings.voc_test_images:
            with writing(root / "voc2007" / "VOCdevkit" / "VOC2007") as folder:
                _draw_voc(settings, folder, workers)
        if settings.imagenet_train_images + settings.imagenet_val_images:
            with writing(root / "imagenet") as folder:
                _draw_imagenet(settings, folder, workers)
        if settings.inaturalist_train_images + settings.inaturalist_val_images:
            with writing(root / "inaturalist") as folder:
                _draw_inaturalist(settings, folder, workers)


def _num_images(settings: DrawnWorld) -> int:
    return (
        settings.train_images
        + settings.val_images
        + settings.voc_trainval_images
        + settings.voc_test_images
        + len(SHAPE_NAMES) * (settings.imagenet_train_images + settings.imagenet_val_images)
        + len(SPECIES) * (settings.inaturalist_train_images + settings.inaturalist_val_images)
    )


def _drawings(
    settings: DrawnWorld, stream: str, paths: Iterable[Path], style: Callable[[int], SceneStyle]
) -> list[Drawing]:
    return [
        Drawing(settings.seed, STREAMS[stream], index, settings.image_size, style(index), path)
        for index, path in enumerate(paths)
    ]


def _draw_captioned(settings: DrawnWorld, root: Path, workers: Studio) -> None:
    splits, first_id, annotation_id = [], 1, 1
    with writing(root / "coco") as folder:
        (folder / "annotations").mkdir(parents=True)
        for name, count in (("train", settings.train_images), ("val", settings.val_images)):
            image_ids = list(range(first_id, first_id + count))
            images_dir = folder / f"{name}2017"
            images_dir.mkdir()
            paths = [images_dir / coco.file_name(image_id) for image_id in image_ids]
            records = workers.draw_all(_drawings(settings, f"coco/{name}", paths, lambda _: CAPTIONED))
            splits.append(coco.CocoSplit(name, image_ids, records))
            annotation_id = coco.write_annotations(splits[-1], folder / "annotations", annotation_id)
            first_id += count
    with writing(root / "lvis") as folder:
        (folder / "annotations").mkdir(parents=True)
        coco.write_lvis(splits, folder / "annotations", settings.seed)


def _draw_voc(settings: DrawnWorld, folder: Path, workers: Studio) -> None:
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    num_trainval, num_test = settings.voc_trainval_images, settings.voc_test_images
    trainval = list(range(1, num_trainval + 1))
    test = list(range(num_trainval + 1, num_trainval + num_test + 1))
    records: dict[int, ImageRecord] = {}
    for name, numbers in (("trainval", trainval), ("test", test)):
        paths = [folder / "JPEGImages" / f"{number:06d}.jpg" for number in numbers]
        drawn = workers.draw_all(_drawings(settings, f"voc/{name}", paths, classified))
        _write_voc_annotations(folder, numbers, drawn)
        records.update(zip(numbers, drawn, strict=True))
    sets = {"train": trainval[::2], "val": trainval[1::2], "trainval": trainval, "test": test}
    _write_image_sets(folder, sets, records)


def _write_voc_annotations(voc_dir: Path, numbers: Sequence[int], records: Sequence[ImageRecord]) -> None:
    """Write one XML file per image, boxes 1-based and inclusive."""
    for number, record in zip(numbers, records, strict=True):
        tree = _voc_annotation(f"{number:06d}.jpg", record)
        ElementTree.indent(tree, space="\t")
        path = voc_dir / "Annotations" / f"{number:06d}.xml"
        path.write_text(ElementTree.tostring(tree, encoding="unicode") + "\n", encoding="utf-8")


def _write_image_sets(
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
        (main / f"{name}.txt").write_text("".join(f"{n:06d}\n" for n in numbers), encoding="utf-8")
        for shape in SHAPE_NAMES:
            lines = [f"{n:06d} {_presence(shape, records[n]):2d}\n" for n in numbers]
            (main / f"{shape}_{name}.txt").write_text("".join(lines), encoding="utf-8")


def _presence(shape: str, record: ImageRecord) -> int:
    difficult = [item.difficult for item in record.objects if item.look.shape == shape]
    if not difficult:
        return -1
    return 0 if all(difficult) else 1


def _voc_annotation(file_name: str, record: ImageRecord) -> ElementTree.Element:
    root = ElementTree.Element("annotation")
    _texts(root, folder="VOC2007", filename=file_name)
    source = ElementTree.SubElement(root, "source")
    _texts(source, database="Drawn world", annotation="PASCAL VOC2007", image="drawn")
    size = ElementTree.SubElement(root, "size")
    _texts(size, width=record.width, height=record.height, depth=3)
    _texts(root, segmented=0)
    for item in record.objects:
        root.append(_voc_object(item))
    return root


def _voc_object(item: ObjectRecord) -> ElementTree.Element:
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


def _draw_imagenet(settings: DrawnWorld, folder: Path, workers: Studio) -> None:
    counts = (("train", settings.imagenet_train_images), ("val", settings.imagenet_val_images))
    for name, count in counts:
        shapes = [shape for shape in SHAPE_NAMES for _ in range(count)]
        for shape in SHAPE_NAMES:
            (folder / name / WORDNET_IDS[shape]).mkdir(parents=True)
        paths = [
            folder / name / WORDNET_IDS[shape] / _imagenet_name(name, WORDNET_IDS[shape], index)
            for index, shape in enumerate(shapes)
        ]
        styles = [SceneStyle(COUNTS, subject_shape=shape) for shape in shapes]
        workers.draw_all(_drawings(settings, f"imagenet/{name}", paths, styles.__getitem__))


def _imagenet_name(split: str, wordnet_id: str, index: int) -> str:
    return f"{wordnet_id}_{index + 1}.JPEG" if split == "train" else f"ILSVRC2012_val_{index + 1:08d}.JPEG"


def _draw_inaturalist(settings: DrawnWorld, folder: Path, workers: Studio) -> None:
    train_counts = long_tailed_counts(settings.inaturalist_train_images, settings.seed)
    val_counts = [settings.inaturalist_val_images] * len(SPECIES)
    (folder / "annotations").mkdir(parents=True)
    first_id = 1
    for name, counts in (("train", train_counts), ("val", val_counts)):
        members = [member for member, count in zip(SPECIES, counts, strict=True) for _ in range(count)]
        image_ids = range(first_id, first_id + len(members))
        paths = [
            folder / _species_file(member, image_id)
            for member, image_id in zip(members, image_ids, strict=True)
        ]
        for parent in sorted({path.parent for path in paths}):
            parent.mkdir(parents=True, exist_ok=True)
        styles = [
            SceneStyle(COUNTS, subject_shape=member.shape, subject_texture=member.texture)
            for member in members
        ]
        records = workers.draw_all(_drawings(settings, f"inaturalist/{name}", paths, styles.__getitem__))
        path = folder / "annotations" / f"{name}2018.json"
        _write_species(path, members, image_ids, records)
        first_id += len(members)


def long_tailed_counts(mean: int, seed: int) -> list[int]:
    """Return training images of each species: a power law over a random ranking, one at least.

    Args:
        mean: images per species on average; the counts sum to it times the number of species.
        seed: chooses which species are common.
    """
    total = mean * len(SPECIES)
    ranks = np.random.default_rng([seed, 200]).permutation(len(SPECIES))
    weights = (ranks + 1.0) ** -TAIL_EXPONENT
    spare = total - len(SPECIES)
    shares = np.cumsum(weights / weights.sum()) * spare
    extra = np.diff(np.concatenate([[0], np.round(shares)])).astype(int)
    return (1 + extra).tolist() if mean > 0 else [0] * len(SPECIES)


def _species_file(species: Species, image_id: int) -> str:
    """Return the path of an image below the dataset's root, as the annotations name it."""
    return f"train_val2018/{species.family}/{species.number}/{image_id:08d}.jpg"


def _write_species(
    path: Path, members: Sequence[Species], image_ids: Sequence[int], records: Sequence[ImageRecord]
) -> None:
    """Write one split's JSON: images, one annotation per image (its species), all categories.

    Args:
        path: the JSON file.
        members: the species of each image.
        image_ids: unique over both splits, in step with ``members``; also the annotations' ids.
        records: the drawn images, in step with ``members``.
    """
    images = [
        {
            "id": image_id,
            "file_name": _species_file(species, image_id),
            "license": 1,
            "rights_holder": "",
            "height": record.height,
            "width": record.width,
        }
        for species, image_id, record in zip(members, image_ids, records, strict=True)
    ]
    annotations = [
        {"id": image_id, "image_id": image_id, "category_id": species.number}
        for species, image_id in zip(members, image_ids, strict=True)
    ]
    categories = [{"id": s.number, "name": s.name, "supercategory": s.family} for s in SPECIES]
    info = {"description": "Drawn world", "version": "1", "year": 2018}
    coco.dump(
        path,
        {
            "info": info,
            "licenses": coco.LICENSES,
            "images": images,
            "annotations": annotations,
            "categories": categories,
        },
    )
