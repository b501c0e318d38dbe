"""Drawing the whole world: each dataset's scenes and its files, one layout after another."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from components.core.files import writing
from components.params import DrawnWorld
from components.sources.drawn_world import coco, species, voc
from components.sources.drawn_world.compose import SceneStyle
from components.sources.drawn_world.drawing import Drawing, ImageRecord, Studio, studio
from components.sources.drawn_world.shapes import SHAPE_NAMES
from components.sources.drawn_world.species import SPECIES, WORDNET_IDS, long_tailed_counts

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
    voc.make_folders(folder)
    num_trainval, num_test = settings.voc_trainval_images, settings.voc_test_images
    trainval = list(range(1, num_trainval + 1))
    test = list(range(num_trainval + 1, num_trainval + num_test + 1))
    records: dict[int, ImageRecord] = {}
    for name, numbers in (("trainval", trainval), ("test", test)):
        paths = [folder / "JPEGImages" / f"{voc.image_name(number)}.jpg" for number in numbers]
        drawn = workers.draw_all(_drawings(settings, f"voc/{name}", paths, classified))
        voc.write_annotations(folder, numbers, drawn)
        records.update(zip(numbers, drawn, strict=True))
    sets = {"train": trainval[::2], "val": trainval[1::2], "trainval": trainval, "test": test}
    voc.write_image_sets(folder, sets, records)


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
            folder / species.file_name(member, image_id)
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
        species.write_annotations(path, members, image_ids, records)
        first_id += len(members)
