from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from components.benchmarks import feature_cache
from components.benchmarks.feature_cache import backbone_digest, cached_features, images_digest
from components.benchmarks.features import Features, extract_features
from components.core.errors import InputError
from components.data.dataset import ImageDataset
from components.data.transforms import EvalTransform


class Extractions:
    """Counts how often features were really extracted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0

        def extract(*args, **options) -> Features:
            self.count += 1
            return extract_features(*args, **options)

        monkeypatch.setattr(feature_cache, "extract_features", extract)


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
    before = feature_cache.code_digest()
    monkeypatch.setattr(feature_cache, "CODE", feature_cache.CODE[1:])
    feature_cache.code_digest.cache_clear()
    ask()
    assert extractions.count == 2
    assert feature_cache.code_digest() != before
    feature_cache.code_digest.cache_clear()


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
