"""One small drawn world for all tests of its files, and freshly composed scenes."""

from pathlib import Path

import numpy as np
import pytest

from components.params import DrawnWorld
from components.sources.drawn_world.compose import compose
from components.sources.drawn_world.scene import Scene
from components.sources.drawn_world.world import CAPTIONED, STREAMS, classified, draw_world

STYLES = {"coco": lambda index: CAPTIONED, "voc": classified}


def make_settings(**changes: int) -> DrawnWorld:
    """Settings of a world of a few hundred small images."""
    values = {
        "seed": 3,
        "image_size": 48,
        "train_images": 60,
        "val_images": 5,
        "voc_trainval_images": 40,
        "voc_test_images": 20,
        "imagenet_train_images": 2,
        "imagenet_val_images": 1,
        "inaturalist_train_images": 2,
        "inaturalist_val_images": 1,
    }
    return DrawnWorld(**{**values, **changes})


def recompose(settings: DrawnWorld, stream: str, index: int) -> Scene:
    """The scene behind a drawn image, composed again."""
    rng = np.random.default_rng([settings.seed, STREAMS[stream], index])
    return compose(rng, settings.image_size, STYLES[stream.partition("/")[0]](index))


@pytest.fixture(scope="session")
def settings() -> DrawnWorld:
    return make_settings()


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory, settings: DrawnWorld) -> Path:
    """Root of the drawn world, drawn by the calling process."""
    root = tmp_path_factory.mktemp("drawn")
    draw_world(settings, root, num_workers=1, progress=False)
    return root
