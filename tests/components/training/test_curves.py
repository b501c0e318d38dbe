from pathlib import Path

import numpy as np
from PIL import Image

from components.training.curves import draw_losses
from components.training.state import History


def test_draws_what_was_measured(tmp_path: Path) -> None:
    train = [{"iteration": i, "loss": 9.0 / i, "backbone_lr": 0.2, "head_lr": 0.1} for i in (1, 2, 3)]
    history = History(train=train, val=[{"iteration": 3, "loss": 4.0}])
    draw_losses(tmp_path / "full.png", history)
    draw_losses(tmp_path / "empty.png", History())
    full, empty = (np.asarray(Image.open(tmp_path / name)) for name in ("full.png", "empty.png"))
    assert full.shape == empty.shape == (720, 960, 4)
    assert not np.array_equal(full, empty)
