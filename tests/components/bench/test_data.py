import numpy as np
import torch

from components.bench.data import AUGMENTATION, QUICK, plain_transform, run
from components.bench.drawn import cloud
from components.data.normalisation import normalised
from components.data.transforms import TrainTransform


def test_both_sides_see_pictures_of_the_same_kind() -> None:
    pixels = cloud(120, 160, np.random.default_rng(0))
    augmentation = AUGMENTATION.model_copy(update={"crop_size": 64})
    ours = TrainTransform(augmentation)
    draws = [np.random.default_rng(number) for number in range(60)]
    plain = torch.stack([plain_transform(pixels, augmentation, rng) for rng in draws])
    house = normalised(torch.stack([torch.from_numpy(ours(pixels, "", rng)[0]) for rng in draws]))
    assert plain.shape == house.shape == (60, 3, 64, 64)
    assert plain.dtype == house.dtype
    torch.testing.assert_close(plain.mean(), house.mean(), rtol=0, atol=0.15)
    torch.testing.assert_close(plain.std(), house.std(), rtol=0.15, atol=0)


def test_quick_run_has_a_row_for_each_store() -> None:
    rows = run(QUICK, rounds=1)
    assert [row.units for row in rows] == [QUICK.batch * QUICK.batches] * 4
    assert all(row.baseline == rows[0].baseline for row in rows)
    assert [row.target for row in rows] == [2.0, 4.0, 2.0, 4.0]
    as_files, decoded, small, small_decoded = (row.figures["kB per image"] for row in rows)
    assert decoded > as_files > small
    assert decoded > small_decoded > small
