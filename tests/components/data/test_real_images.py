"""Photographs of the real-data pack through the whole data path."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.data.batch import collate_targets
from components.data.build import build_store
from components.data.dataset import TrainDataset, ValDataset
from components.data.image import decode
from components.data.loader import visit_loader
from components.data.normalisation import normalised
from components.data.record import StoreForm
from components.data.selection import select
from components.data.store import CaptionStore
from components.data.targets import make_targets
from components.data.transforms import EvalTransform, TrainTransform
from components.sources.readers.types import CaptionedImage


class Words:
    """A tokenizer with one token for the length of each word."""

    vocab_size = 40

    def caption_tokens(self, text: str, max_length: int) -> list[int]:
        return [1, *(4 + len(word) for word in text.split()), 2][:max_length]


@pytest.fixture(scope="module")
def photographs(shared_dir: Path) -> list[CaptionedImage]:
    root = shared_dir / "data" / "real" / "coco"
    if not root.is_dir():
        pytest.skip(f"no COCO photographs at {root}")
    annotations = json.loads((root / "annotations" / "captions_val2017.json").read_text(encoding="utf-8"))
    captions: dict[int, list[str]] = {}
    for annotation in annotations["annotations"]:
        captions.setdefault(annotation["image_id"], []).append(annotation["caption"])
    chosen = sorted(annotations["images"], key=lambda image: image["id"])[:24]
    return [
        CaptionedImage(
            f"coco/{image['id']}", "coco", root / "val2017" / image["file_name"], tuple(captions[image["id"]])
        )
        for image in chosen
    ]


def test_two_decoders_agree(photographs: list[CaptionedImage]) -> None:
    for photograph in photographs:
        ours = decode(photograph.path.read_bytes()).astype(int)
        with Image.open(photograph.path) as image:
            theirs = np.asarray(image.convert("RGB")).astype(int)
        assert np.abs(ours - theirs).mean() < 1


def test_photographs_through_the_store(
    tmp_path: Path, photographs: list[CaptionedImage], augmentation
) -> None:
    path = tmp_path / "photographs.lmdb"
    report = build_store(path, photographs, StoreForm(96), num_workers=2)
    assert report.count == len(photographs)
    assert report.num_resized == len(photographs)
    store = CaptionStore(path)
    assert {min(decode(record.image).shape[:2]) for record in store} == {96}

    targets = make_targets("bicaptioning", Words(), 30)
    everything = select(store, "bicaptioning")
    dataset = TrainDataset(store, everything, TrainTransform(augmentation), targets, seed=0)
    loader = visit_loader(
        dataset, collate_targets, batch_size=8, start_iteration=0, num_iterations=6, num_workers=2
    )
    values = np.concatenate([normalised(batch["image"]).numpy() for batch in loader])
    assert values.shape == (48, 3, 32, 32)
    assert np.abs(values.mean(axis=(0, 2, 3))).max() < 0.6  # normalised: near 0, and near 1 below
    assert 0.6 < values.std() < 1.6


def test_resizing_before_the_store_changes_little(tmp_path: Path, photographs: list[CaptionedImage]) -> None:
    stores = []
    for short_side in (None, 160):
        path = tmp_path / f"{short_side}.lmdb"
        build_store(path, photographs, StoreForm(short_side), num_workers=2)
        store, targets = CaptionStore(path), make_targets("bicaptioning", Words(), 30)
        stores.append(ValDataset(store, select(store, "bicaptioning"), EvalTransform(80, 72), targets))
    full, small = stores
    differences = [
        float((full[index]["image"] - small[index]["image"]).abs().mean()) for index in range(len(full))
    ]
    # The longer side may round to one pixel more or less, which moves the crop by half a pixel.
    assert max(differences) < 0.3
    assert np.mean(differences) < 0.12
    assert (full[0]["image"] - small[1]["image"]).abs().mean() > 0.5
    assert full[0]["targets"] == small[0]["targets"]


def test_reported_pictures(shared_dir: Path) -> None:
    folder = shared_dir / "reports" / "images"
    if not folder.is_dir():
        pytest.skip("needs ../shared/reports")
    found = {path.name: decode(path.read_bytes()) for path in folder.iterdir() if path.suffix}
    assert found["exif6.jpg"].shape == (64, 48, 3)
    assert (found["float01.tif"] == 204).all()  # 0.8 of white
    assert (found["gray_maxval1023.pgm"] == 200).all()  # 802 of 1,023
    assert EvalTransform(256, 224)(found["thin_1x5000.png"]).shape == (3, 224, 224)
