"""The files of the drawn world: same bytes for the same seed, readable by the real datasets' readers."""

import hashlib
import json
import re
import shutil
import signal
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import psutil
import pytest
from PIL import Image
from pycocotools.coco import COCO

from components.sources.drawn_world.drawing import Drawing, studio
from components.sources.drawn_world.shapes import SHAPE_NAMES
from components.sources.drawn_world.sprites import box_of
from components.sources.drawn_world.world import CAPTIONED, SPECIES, draw_world
from components.sources.readers.coco import read_captions, read_instances
from components.sources.readers.imagenet import read_imagenet
from components.sources.readers.inaturalist import read_inaturalist
from components.sources.readers.lvis import read_lvis
from components.sources.readers.voc import read_voc07

from .conftest import make_settings, recompose


def digests(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def load(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def test_same_bytes_whatever_the_number_of_workers(tmp_path):
    small = make_settings(
        train_images=40, val_images=2, voc_trainval_images=6, voc_test_images=2,
        imagenet_train_images=1, imagenet_val_images=0, inaturalist_train_images=1, inaturalist_val_images=0,
    )  # fmt: skip
    for num_workers in (1, 2):
        draw_world(small, tmp_path / str(num_workers), num_workers, progress=False)
    assert digests(tmp_path / "1") == digests(tmp_path / "2")
    assert len(digests(tmp_path / "1")) > 42 + 8 + 12 + 48


def test_another_seed_draws_another_world(drawn, tmp_path):
    others = [
        name for name in type(make_settings()).model_fields if name.startswith(("voc", "imagenet", "inat"))
    ]
    only_coco = dict.fromkeys(others, 0)
    draw_world(make_settings(seed=4, train_images=3, **only_coco), tmp_path, num_workers=1, progress=False)
    assert {path.name for path in tmp_path.iterdir()} == {"coco", "lvis"}
    name = "coco/train2017/000000000001.jpg"
    assert (tmp_path / name).read_bytes() != (drawn / name).read_bytes()


@pytest.mark.parametrize("split", ["train", "val"])
def test_coco_masks_and_boxes_are_those_of_the_scene(drawn, settings, split):
    coco = COCO(str(drawn / f"coco/annotations/instances_{split}2017.json"))
    for index, image_id in enumerate(sorted(coco.getImgIds())):
        scene = recompose(settings, f"coco/{split}", index)
        image = coco.loadImgs(image_id)[0]
        with Image.open(drawn / f"coco/{split}2017" / image["file_name"]) as file:
            assert file.size == (image["width"], image["height"]) == scene.size[::-1]
        annotations = coco.loadAnns(coco.getAnnIds(image_id, iscrowd=0))
        assert len(annotations) == len(scene.objects)
        for annotation, placed in zip(annotations, scene.objects, strict=True):
            mask = coco.annToMask(annotation).astype(bool)
            assert np.array_equal(mask, placed.visible)
            assert tuple(annotation["bbox"]) == box_of(mask)
            assert annotation["area"] == mask.sum()
            assert coco.cats[annotation["category_id"]]["name"] == placed.look.shape


def test_coco_crowds_are_uncompressed_run_lengths(drawn, settings):
    path = drawn / "coco/annotations/instances_train2017.json"
    raw = {
        a["id"]: json.loads(json.dumps(a["segmentation"])) for a in load(path)["annotations"] if a["iscrowd"]
    }
    coco = COCO(str(path))
    assert raw
    for annotation in coco.loadAnns(list(raw)):
        assert isinstance(raw[annotation["id"]]["counts"], list)
        mask = coco.annToMask(annotation).astype(bool)
        scene = recompose(settings, "coco/train", annotation["image_id"] - 1)
        assert np.array_equal(mask, scene.crowd.visible)
        assert tuple(annotation["bbox"]) == box_of(mask)
        assert annotation["area"] == mask.sum()
        assert len(scene.crowd.members) >= 8


def test_coco_ids_are_unique_and_captions_five(drawn):
    files = [load(drawn / f"coco/annotations/{kind}_{split}2017.json")
             for kind in ("captions", "instances") for split in ("train", "val")]  # fmt: skip
    for first, second in (files[:2], files[2:]):
        assert not {i["id"] for i in first["images"]} & {i["id"] for i in second["images"]}
    for file in files[:2]:
        assert set(Counter(a["image_id"] for a in file["annotations"]).values()) == {5}
    for pair in (files[:2], files[2:]):
        ids = [annotation["id"] for file in pair for annotation in file["annotations"]]
        assert len(ids) == len(set(ids))


def test_lvis_counts_and_federation(drawn):
    train = load(drawn / "lvis/annotations/lvis_v1_train.json")
    instances = COCO(str(drawn / "coco/annotations/instances_train2017.json"))
    assert len(train["annotations"]) == len(instances.getAnnIds(iscrowd=0))
    per_image: dict[int, set[int]] = {image["id"]: set() for image in train["images"]}
    for annotation in train["annotations"]:
        per_image[annotation["image_id"]].add(annotation["category_id"])
        assert isinstance(annotation["segmentation"], list)
    instance_count = Counter(annotation["category_id"] for annotation in train["annotations"])
    image_count = Counter(category for present in per_image.values() for category in present)
    for category in train["categories"]:
        assert category["instance_count"] == instance_count[category["id"]]
        assert category["image_count"] == (count := image_count[category["id"]])
        assert category["frequency"] == ("r" if count <= 10 else "c" if count <= 100 else "f")
    names = {category["id"]: category["name"] for category in train["categories"]}
    crowded = {instances.anns[i]["image_id"] for i in instances.getAnnIds(iscrowd=1)}
    for image in train["images"]:
        assert image["neg_category_ids"]
        assert not set(image["neg_category_ids"]) & per_image[image["id"]]
        open_shapes = [names[category] for category in image["not_exhaustive_category_ids"]]
        assert bool(open_shapes) == (image["id"] in crowded)
        absent = {names[i] for i in image["neg_category_ids"]}
        assert not absent & set(open_shapes)
        present = {names[i] for i in per_image[image["id"]]}
        assert set(SHAPE_NAMES) == {name for name in absent | present | set(open_shapes) if "_" not in name}
        assert (drawn / "coco" / "/".join(image["coco_url"].split("/")[-2:])).is_file()


def test_voc_boxes_are_one_based_and_tight(drawn, settings):
    folder = drawn / "voc2007/VOCdevkit/VOC2007"
    for index, name in enumerate(
        (folder / "ImageSets/Main/trainval.txt").read_text(encoding="utf-8").split()
    ):
        scene = recompose(settings, "voc/trainval", index)
        tree = ElementTree.parse(folder / f"Annotations/{name}.xml")
        assert (int(tree.findtext("size/height")), int(tree.findtext("size/width"))) == scene.size
        for element, placed in zip(tree.iter("object"), scene.objects, strict=True):
            xmin, ymin, xmax, ymax = (int(v.text) for v in element.find("bndbox"))
            mask = np.zeros(scene.size, dtype=bool)
            mask[ymin - 1 : ymax, xmin - 1 : xmax] = True
            assert box_of(mask) == box_of(placed.visible)
            assert element.findtext("name") == placed.look.shape
            assert element.findtext("truncated") == str(int(placed.truncated))


def test_voc_lists_follow_the_annotations(drawn):
    folder = drawn / "voc2007/VOCdevkit/VOC2007"
    sets = {name: (folder / f"ImageSets/Main/{name}.txt").read_text(encoding="utf-8").split()
            for name in ("train", "val", "trainval", "test")}  # fmt: skip
    assert sorted(sets["train"] + sets["val"]) == sets["trainval"]
    assert not set(sets["trainval"]) & set(sets["test"])
    seen = Counter()
    for set_name, images in sets.items():
        difficult = {image: _difficult(folder / f"Annotations/{image}.xml") for image in images}
        for shape in SHAPE_NAMES:
            lines = (
                (folder / f"ImageSets/Main/{shape}_{set_name}.txt").read_text(encoding="utf-8").splitlines()
            )
            assert [line[:6] for line in lines] == images
            for line, image in zip(lines, images, strict=True):
                flags = difficult[image].get(shape)
                expected = -1 if flags is None else 0 if all(flags) else 1
                assert line[6:] == f" {expected:2d}"
                seen[expected] += 1
    assert all(seen[value] for value in (-1, 0, 1))


def _difficult(path: Path) -> dict[str, list[bool]]:
    flags: dict[str, list[bool]] = {}
    for element in ElementTree.parse(path).iter("object"):
        flags.setdefault(element.findtext("name"), []).append(element.findtext("difficult") == "1")
    return flags


def test_imagenet_folders(drawn):
    for split, count in (("train", 2), ("val", 1)):
        folders = sorted((drawn / "imagenet" / split).iterdir())
        assert [folder.name for folder in folders] == [f"n{n:08d}" for n in range(1, len(SHAPE_NAMES) + 1)]
        assert all(len(list(folder.glob("*.JPEG"))) == count for folder in folders)


def test_inaturalist_is_long_tailed_and_complete(drawn):
    root = drawn / "inaturalist"
    train, val = (load(root / f"annotations/{split}2018.json") for split in ("train", "val"))
    counts = Counter(annotation["category_id"] for annotation in train["annotations"])
    assert set(counts) == {category["id"] for category in train["categories"]}
    assert sum(counts.values()) == 2 * len(counts)
    assert max(counts.values()) >= 6 * min(counts.values())
    assert set(Counter(a["category_id"] for a in val["annotations"]).values()) == {1}
    for file in (train, val):
        assert [a["image_id"] for a in file["annotations"]] == [image["id"] for image in file["images"]]
        assert all((root / image["file_name"]).is_file() for image in file["images"])
    assert not {image["id"] for image in train["images"]} & {image["id"] for image in val["images"]}


def test_the_readers_of_the_real_datasets_read_it(drawn):
    images = read_captions(drawn / "coco", "train", "coco")
    assert (len(images), {len(image.captions) for image in images}) == (60, {5})
    assert len(read_instances(drawn / "coco", "val")["images"]) == 5
    test = read_voc07(drawn / "voc2007/VOCdevkit", "test")
    assert test.labels.shape == (20, len(SHAPE_NAMES))
    assert test.classes == tuple(sorted(SHAPE_NAMES))
    assert len(read_lvis(drawn / "lvis", "train", drawn / "coco")["images"]) == 60
    assert len(read_imagenet(drawn / "imagenet", "train").image_paths) == 2 * len(SHAPE_NAMES)
    assert len(read_inaturalist(drawn / "inaturalist", "val").image_paths) == len(SPECIES)


def test_nothing_is_left_behind_when_drawing_fails(tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("components.sources.drawn_world.coco.write_annotations", fail)
    with pytest.raises(OSError, match="No space left"):
        draw_world(make_settings(train_images=2, val_images=1), tmp_path, num_workers=1, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_a_failing_worker_stops_the_drawing(tmp_path):
    """One image's folder is missing: its error arrives, and nobody draws after that."""
    (tmp_path / "there").mkdir()
    drawings = [
        Drawing(0, 0, index, 48, CAPTIONED, tmp_path / ("there" if index != 20 else "gone") / f"{index}.jpg")
        for index in range(200)
    ]
    with studio(2, len(drawings), progress=False) as workers:
        with pytest.raises(FileNotFoundError, match="gone"):
            workers.draw_all(drawings)
        shutil.rmtree(tmp_path / "there")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="no /proc, which tells a process's signals"
)
def test_workers_do_not_hear_ctrl_c_from_their_start_on():
    with studio(2, 1, progress=False):
        workers = [w for w in psutil.Process().children() if "spawn_main" in " ".join(w.cmdline())]
        states = [Path(f"/proc/{worker.pid}/status").read_text() for worker in workers]
    held_back = [int(re.search(r"^SigBlk:\t(\w+)$", state, re.M)[1], 16) for state in states]
    assert [bool(mask >> (signal.SIGINT - 1) & 1) for mask in held_back] == [True, True]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
