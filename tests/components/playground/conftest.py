"""A tiny captioner and a random backbone, and six validation images of two colours, for the playground."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_captioner import captioner, captioner_path, make_config, tokenizer_path  # noqa: F401

from components.data.build import build_store
from components.data.record import StoreForm
from components.models.backbones import TorchvisionBackbone, export_backbone
from components.playground.models import Known, Player, open_players
from components.sources.readers.types import CaptionedImage


@pytest.fixture(scope="session")
def backbone_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("backbone") / "random.safetensors"
    torch.manual_seed(1)
    export_backbone(TorchvisionBackbone("resnet18").cnn, path, "resnet18", "random")
    return path


@pytest.fixture(scope="session")
def known(tmp_path_factory: pytest.TempPathFactory) -> Known:
    """Images 0 to 5; even ones are dark, odd ones light."""
    folder = tmp_path_factory.mktemp("known")
    images = []
    for number in range(6):
        low = 20 if number % 2 == 0 else 180
        pixels = np.random.default_rng(number).integers(low, low + 50, (70, 90, 3), np.uint8)
        path = folder / f"{number}.png"
        Image.fromarray(pixels).save(path)
        images.append(
            CaptionedImage(f"world/{number}", "world", path, (f"{'light' if low > 99 else 'dark'} {number}",))
        )
    build_store(folder / "val.lmdb", images, StoreForm(), num_workers=1)
    return Known.of(folder / "val.lmdb", 500)


@pytest.fixture(scope="session")
def players(captioner_path: Path, backbone_path: Path, known: Known) -> list[Player]:  # noqa: F811
    """A captioner and a backbone alone, which know the images."""
    opened = open_players([str(captioner_path), str(backbone_path)], "cpu", None)
    for player in opened:
        player.learn(known, num_workers=0)
    return opened
