from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn

from components.benchmarks.features import extract_features, l2_normalised
from components.core.errors import InputError
from components.data.dataset import ImageDataset
from components.data.transforms import EvalTransform


def backbone() -> nn.Module:
    torch.manual_seed(0)
    cnn = torchvision.models.resnet18()
    cnn.fc = nn.Identity()
    return cnn.train()


def images(folder: Path, count: int) -> ImageDataset:
    rng = np.random.default_rng(0)
    paths = [folder / f"{i}.png" for i in range(count)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(path)
    return ImageDataset(paths, EvalTransform(40, 32))


def test_features_come_in_order_and_depend_on_their_image_alone(tmp_path: Path) -> None:
    cnn, dataset = backbone(), images(tmp_path, 5)
    features = extract_features(cnn, dataset, batch_size=2, num_workers=0, device="cpu")
    assert features.shape == (5, 512)
    assert features.dtype == np.float32
    cnn.eval()
    for index in range(5):
        with torch.inference_mode():
            alone = cnn(dataset[index]["image"][None])[0].numpy()
        np.testing.assert_allclose(features[index], alone, rtol=1e-4, atol=1e-5)
    again = extract_features(cnn, dataset, batch_size=2, num_workers=2, device="cpu")
    np.testing.assert_array_equal(features, again)


def test_leaves_batch_norm_statistics_alone(tmp_path: Path) -> None:
    cnn = backbone()
    before = cnn.bn1.running_mean.clone()
    extract_features(cnn, images(tmp_path, 2), batch_size=2, num_workers=0, device="cpu")
    assert torch.equal(cnn.bn1.running_mean, before)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_names_an_unreadable_image_in_one_line(tmp_path: Path, num_workers: int) -> None:
    dataset = images(tmp_path, 3)
    (tmp_path / "1.png").write_bytes(b"no image")
    with pytest.raises(InputError) as error:
        extract_features(backbone(), dataset, batch_size=1, num_workers=num_workers, device="cpu")
    assert str(error.value).startswith(str(tmp_path / "1.png"))
    assert "\n" not in str(error.value)


def test_rows_have_unit_length_and_zeros_stay() -> None:
    rows = l2_normalised(np.array([[3.0, 4.0], [0.0, 0.0]], dtype=np.float32))
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0.0, 0.0]], rtol=1e-6)
