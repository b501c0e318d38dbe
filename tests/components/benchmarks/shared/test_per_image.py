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


def test_bounds_of_a_figure_stay_inside_its_range_and_those_of_a_difference_do_not() -> None:
    # Resamples whose mean is off, as those of average precision are, shift the bounds.
    spread = np.linspace(-2.0, 2.0, 1000)
    low = PerImage(IMAGES, {"AP": 1.0}, {"AP": 5.0 + spread}, {})
    high = PerImage(
        IMAGES, {"AP": 99.0, "CIDEr-D": 99.0}, {"AP": 95.0 + spread, "CIDEr-D": 95.0 + spread}, {}
    )
    assert low.intervals()["AP"] == {"low": 0.0, "high": pytest.approx(2.9, abs=0.01)}
    assert high.intervals()["AP"] == {"low": pytest.approx(97.1, abs=0.01), "high": 100.0}
    assert high.intervals()["CIDEr-D"]["high"] == pytest.approx(100.9, abs=0.01)
    difference = low.difference(high, "AP")
    assert difference is not None
    assert difference == (-98.0, Interval(pytest.approx(-98.0), pytest.approx(-98.0)))
    off = PerImage(IMAGES, {"AP": 0.0}, {"AP": 5.0 + 2 * spread}, {}).difference(low, "AP")
    assert off is not None
    assert off[1].low == pytest.approx(-2.9, abs=0.01)


def test_figures_on_other_images_have_no_difference() -> None:
    hits = np.arange(100) < 30
    assert of_hits(hits).difference(of_hits(hits, IMAGES[::-1]), "top1") is None
    assert of_hits(hits).difference(of_hits(hits), "top5") is None
    assert PerImage.nothing().difference(of_hits(hits), "top1") is None


def test_a_benchmark_that_is_not_run_has_a_file_too(tmp_path: Path) -> None:
    PerImage.nothing().write(tmp_path / "nothing.npz")
    found = PerImage.read(tmp_path / "nothing.npz")
    assert (found.images, found.figures, found.intervals()) == ((), {}, {})
