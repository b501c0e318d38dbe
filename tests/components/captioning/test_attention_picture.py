from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from components.captioning.attention import SeenWord
from components.captioning.attention_picture import draw_attention
from components.captioning.captioner import Caption

GRAY = torch.zeros(3, 32, 32)  # the ImageNet mean


def spot(row: int, column: int) -> torch.Tensor:
    attention = torch.full((4, 4), 0.01)
    attention[row, column] = 1 - attention.sum() + 0.01
    return attention


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def test_places_that_were_looked_at_are_brighter(tmp_path: Path) -> None:
    caption = Caption("x", -1.5, (4, 2))
    for name, attention in (("left", spot(1, 0)), ("right", spot(1, 3))):
        draw_attention(tmp_path / name, GRAY, caption, [SeenWord("x", attention)])
    difference = (pixels(tmp_path / "left") - pixels(tmp_path / "right")).sum(axis=2)
    columns = np.flatnonzero(np.abs(difference).sum(axis=0))
    middle = (columns.min() + columns.max()) // 2
    assert difference[:, columns.min() : middle].sum() > 0 > difference[:, middle : columns.max()].sum()


def test_a_model_that_looks_nowhere_in_particular_is_shown_as_such(tmp_path: Path) -> None:
    even = torch.full((4, 4), 1 / 16)
    for name, attention in (("even", even), ("nearly", even + 1e-4 * torch.eye(4))):
        draw_attention(tmp_path / name, GRAY, Caption("x", -1.5, (4, 2)), [SeenWord("x", attention)])
    assert np.abs(pixels(tmp_path / "even") - pixels(tmp_path / "nearly")).max() < 8


@pytest.mark.parametrize("num_words", [0, 1, 5, 6, 13])
def test_any_number_of_words(tmp_path: Path, num_words: int) -> None:
    words = [SeenWord(r"$\frac$", spot(0, 0))] * num_words
    draw_attention(tmp_path / "p.png", GRAY, Caption(r"$\frac$ " * 20, -1.0, (4,)), words)
    assert pixels(tmp_path / "p.png").std() > 0
