from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn

from components.benchmarks.shared import features
from components.benchmarks.shared.features import (
    Features,
    backbone_digest,
    cached_features,
    extract_features,
    images_digest,
    l2_normalised,
)
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


class Extractions:
    """Counts how often features were really extracted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0

        def extract(*args, **options) -> Features:
            self.count += 1
            return extract_features(*args, **options)

        monkeypatch.setattr(features, "extract_features", extract)


def tiny_backbone(seed: int = 0, stride: int = 8) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 6, 8, stride), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )


@pytest.fixture
def image_paths(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    found = [tmp_path / "images" / f"{index}.png" for index in range(5)]
    found[0].parent.mkdir()
    for path in found:
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(path)
    return found


@pytest.fixture
def extractions(monkeypatch: pytest.MonkeyPatch) -> Extractions:
    return Extractions(monkeypatch)


@pytest.fixture
def ask(tmp_path: Path, image_paths: list[Path]) -> Callable[..., Features]:
    def ask(
        backbone: nn.Module | None = None,
        paths: list[Path] | None = None,
        transform: EvalTransform | None = None,
        batch_size: int = 2,
        max_bytes: int = 2**20,
    ) -> Features:
        return cached_features(
            backbone or tiny_backbone(),
            paths or image_paths,
            transform or EvalTransform(40, 32),
            batch_size=batch_size,
            num_workers=0,
            device="cpu",
            folder=tmp_path / "features",
            max_bytes=max_bytes,
        )

    return ask


def test_the_second_time_nothing_is_extracted(ask, image_paths, extractions) -> None:
    first, second = ask(), ask()
    assert extractions.count == 1
    np.testing.assert_array_equal(first, second)
    dataset = ImageDataset(image_paths, EvalTransform(40, 32))
    plain = extract_features(tiny_backbone(), dataset, batch_size=2, num_workers=0, device="cpu")
    np.testing.assert_array_equal(second, plain)
    assert second.dtype == np.float32


@pytest.mark.parametrize(
    "change",
    [
        {"backbone": tiny_backbone(seed=1)},
        {"backbone": tiny_backbone(stride=4)},  # equal weights, another structure
        {"transform": EvalTransform(48, 32)},
        {"transform": EvalTransform(40, 40)},
        {"batch_size": 3},
    ],
    ids=["weights", "structure", "image size", "crop size", "batch size"],
)
def test_another_backbone_or_transform_is_a_miss(ask, extractions, change) -> None:
    ask()
    ask(**change)
    assert extractions.count == 2


def test_other_code_is_a_miss(ask, extractions, monkeypatch) -> None:
    ask()
    before = features.code_digest()
    monkeypatch.setattr(features, "CODE", features.CODE[1:])
    features.code_digest.cache_clear()
    ask()
    assert extractions.count == 2
    assert features.code_digest() != before
    features.code_digest.cache_clear()


def test_a_running_statistic_is_part_of_the_backbone(ask, extractions) -> None:
    ask()
    backbone = tiny_backbone()
    backbone[1].running_mean += 0.5
    ask(backbone)
    assert extractions.count == 2


def test_a_changed_image_of_equal_name_and_size_is_a_miss(ask, image_paths, extractions) -> None:
    path = image_paths[3].with_suffix(".bmp")  # uncompressed: equal length whatever it shows
    pixels = np.zeros((40, 50, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    paths = [*image_paths[:3], path]
    before, length = ask(paths=paths), path.stat().st_size
    Image.fromarray(pixels + 200).save(path)
    assert path.stat().st_size == length
    after = ask(paths=paths)
    assert extractions.count == 2
    assert not np.allclose(before[3], after[3])


def test_the_order_and_the_number_of_images_matter(ask, image_paths, extractions) -> None:
    first = ask()
    np.testing.assert_allclose(ask(paths=image_paths[::-1]), first[::-1], rtol=1e-5, atol=1e-6)
    assert ask(paths=image_paths[:-1]).shape == (4, 6)
    assert extractions.count == 3


def test_equal_images_under_other_names_are_a_hit(ask, image_paths, extractions) -> None:
    first = ask()
    moved = [path.rename(path.with_stem(f"moved_{path.stem}")) for path in image_paths]
    np.testing.assert_array_equal(ask(paths=moved), first)
    assert extractions.count == 1


@pytest.mark.parametrize("content", [b"", b"no safetensors file", None], ids=["empty", "noise", "cut"])
def test_a_damaged_file_is_a_miss_and_mended(ask, tmp_path, extractions, caplog, content) -> None:
    first = ask()
    (path,) = (tmp_path / "features").iterdir()
    path.write_bytes(path.read_bytes()[:-8] if content is None else content)
    np.testing.assert_array_equal(ask(), first)
    assert "damaged" in caplog.text
    ask()
    assert extractions.count == 2


def test_the_folder_is_bounded_and_what_was_used_last_stays(ask, tmp_path, extractions) -> None:
    ask()
    (first,) = (tmp_path / "features").iterdir()
    room = 2 * first.stat().st_size
    ask(tiny_backbone(1), max_bytes=room)
    ask(max_bytes=room)  # used again, so the second one goes
    ask(tiny_backbone(2), max_bytes=room)
    files = list((tmp_path / "features").iterdir())
    assert len(files) == 2
    assert first in files
    assert extractions.count == 3


def test_what_is_too_large_is_not_kept(ask, tmp_path) -> None:
    assert ask(max_bytes=8).shape == (5, 6)
    assert not (tmp_path / "features").exists()


def test_a_cache_that_cannot_be_written_is_no_failure(ask, tmp_path, caplog) -> None:
    (tmp_path / "features").write_text("in the way", encoding="utf-8")
    assert ask().shape == (5, 6)
    assert "features are not kept" in caplog.text


def test_a_missing_image_is_named(image_paths) -> None:
    image_paths[2].unlink()
    with pytest.raises(InputError, match=r"2\.png: cannot be read"):
        images_digest(image_paths, 2)


def test_the_digest_of_a_backbone_does_not_depend_on_its_mode() -> None:
    assert backbone_digest(tiny_backbone().train()) == backbone_digest(tiny_backbone().eval())
