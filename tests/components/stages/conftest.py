"""Working directories for stages: one with a small VOC2007, one with all that pretraining reads."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from components import params
from components.core import paths
from components.data.build import build_store
from components.data.record import StoreForm
from components.sources.manifest import DatasetEntry, Manifest, write_parts
from components.sources.readers.types import CaptionedImage
from components.stages import pretrain
from components.text.document_frequencies import write_frequencies
from components.text.tokenizer import CaptionTokenizer, train_tokenizer

REPOSITORY = Path(pretrain.__file__).parents[2]
CATEGORIES = ("dark", "pale", "white")
CHANGES: dict[str, dict[str, Any]] = {
    "augmentation": {"crop_size": 32},
    "textual_head": {"hidden_size": 64, "max_caption_length": 12},
    "schedule": {"iterations": 8, "warmup_iterations": 2},
    "pretrain": {
        "batch_size": 4,
        "validate_every": 4,
        "checkpoint_every": 2,
        "log_every": 2,
        "measure_candidates": False,  # without VOC2007
    },
}


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
    write_parts(paths.DATASETS_DIR, Manifest(source="folders", captions={}, benchmarks={"voc2007": entry}))
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


@pytest.fixture
def sections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[params.Section]:
    """A working directory with params.yaml, a tokenizer and both stores, of grey pictures."""
    yaml = YAML()
    tree = yaml.load(REPOSITORY / "params.yaml")
    for name, values in CHANGES.items():
        tree[name].update(values)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VIRTEX_DEVICE", "cpu")
    monkeypatch.setenv("VIRTEX_NUM_WORKERS", "2")
    yaml.dump(tree, tmp_path / "params.yaml")
    captions = [f"a {word} square to the left of {word}s" for word in ("grey", "pale", "dark", "black")]
    pictures = []
    for index in range(8):
        path = tmp_path / f"{index}.png"
        Image.fromarray(np.full((40, 48, 3), 30 * index, np.uint8)).save(path)
        labels = (1 + index // 4,) if index % 4 else ()
        texts = (captions[index % 4], "a square")
        pictures.append(CaptionedImage(f"grey/{index}", "grey", path, texts, labels))
    for split, kept in (("train", pictures), ("val", pictures[:3])):
        build_store(paths.lmdb_path(split), kept, StoreForm(categories=CATEGORIES), num_workers=1)
    train_tokenizer(captions, 30, paths.TOKENIZER_MODEL)
    write_frequencies(paths.DOCUMENT_FREQUENCIES, CaptionTokenizer(paths.TOKENIZER_MODEL), captions, 12)
    return [params.read_section(section) for section in pretrain.SECTIONS]
