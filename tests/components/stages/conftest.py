"""A small VOC2007 in a working directory of its own, for the stages that measure backbones on it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components import paths
from components.sources.manifest import DatasetEntry, Manifest, write_manifest


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VIRTEX_NUM_WORKERS", "1")
    monkeypatch.setenv("VIRTEX_DEVICE", "cpu")
    return tmp_path


@pytest.fixture
def voc(folder: Path) -> Path:
    """The root of a drawn VOC2007, which the datasets' manifest names."""
    root = folder / "VOCdevkit"
    draw_voc(root)
    entry = DatasetEntry(root=str(root), annotations={}, images={}, listings={})
    write_manifest(paths.DATASETS_MANIFEST, Manifest(source="folders", captions={}, voc2007=entry))
    return root


def draw_voc(root: Path, num_images: int = 18) -> None:
    """Noisy images that are red, or green, or neither; the first test image's class is difficult."""
    folder = root / "VOC2007"
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    (folder / "JPEGImages").mkdir()
    rng = np.random.default_rng(0)
    for split in ("trainval", "test"):
        ids = [f"{split}{i:03d}" for i in range(num_images)]
        for index, image_id in enumerate(ids):
            pixels = rng.integers(0, 120, (50, 60, 3))
            if index % 3 < 2:
                pixels[..., index % 3] += 130
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "JPEGImages" / f"{image_id}.jpg")
        lists = folder / "ImageSets" / "Main"
        (lists / f"{split}.txt").write_text("".join(f"{image_id}\n" for image_id in ids))
        for remainder, name in enumerate(("red", "green")):
            labels = [1 if i % 3 == remainder else -1 for i in range(num_images)]
            if split == "test" and name == "red":
                labels[0] = 0
            rows = (f"{image_id} {label:2d}\n" for image_id, label in zip(ids, labels, strict=True))
            (lists / f"{name}_{split}.txt").write_text("".join(rows))
