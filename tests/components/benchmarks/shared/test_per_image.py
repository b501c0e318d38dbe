"""What benchmarks keep of each test image."""

from pathlib import Path

import numpy as np
import pytest

from components.benchmarks.shared.intervals import Interval, mean_statistic
from components.benchmarks.shared.per_image import PerImage
from components.core.errors import InputError

IMAGES = tuple(f"{number:03d}.jpg" for number in range(100))


def of_hits(hits: np.ndarray, images: tuple[str, ...] = IMAGES) -> PerImage:
    values = {"top1": 100.0 * hits}
    return PerImage.measured(images, {"top1": 100.0 * hits.mean()}, mean_statistic(values), {"hits": hits})


def test_what_is_written_is_read_and_its_bytes_depend_on_nothing_else(tmp_path: Path) -> None:
    results = of_hits(np.arange(100) < 30)
    results.write(tmp_path / "a.npz")
    results.write(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    found = PerImage.read(tmp_path / "a.npz")
    assert found.images == IMAGES
    assert found.figures == {"top1": 30.0}
    assert np.array_equal(found.draws["top1"], results.draws["top1"])
    assert np.array_equal(found.results["hits"], np.arange(100) < 30)
    assert found.intervals() == results.intervals()
    assert found.intervals()["top1"]["low"] < 30 < found.intervals()["top1"]["high"]


def test_a_file_of_another_kind_is_one_clear_error(tmp_path: Path) -> None:
    for content in (None, b"nothing", b"PK\x03\x04 cut short"):
        path = tmp_path / "per_image.npz"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InputError, match=r"per_image\.npz: not a file of results by image"):
            PerImage.read(path)
    np.savez(path, images=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match="not a file of results by image"):
        PerImage.read(path)


def test_the_difference_of_a_model_to_itself_is_none() -> None:
    results = of_hits(np.arange(100) < 30)
    assert results.difference(results, "top1") == (0.0, Interval(0.0, 0.0))


def test_figures_on_other_images_have_no_difference() -> None:
    hits = np.arange(100) < 30
    assert of_hits(hits).difference(of_hits(hits, IMAGES[::-1]), "top1") is None
    assert of_hits(hits).difference(of_hits(hits), "top5") is None
    assert PerImage.nothing().difference(of_hits(hits), "top1") is None


def test_a_benchmark_that_is_not_run_has_a_file_too(tmp_path: Path) -> None:
    PerImage.nothing().write(tmp_path / "nothing.npz")
    found = PerImage.read(tmp_path / "nothing.npz")
    assert (found.images, found.figures, found.intervals()) == ((), {}, {})
