"""Every preset resolves to a valid configuration, and `demo` leads back to the default."""

import shutil
from pathlib import Path

import pytest

from components.params import check_params, list_presets, matching_presets, overlay
from components.params.presets import PRESETS_DIR

REPOSITORY = Path(__file__).resolve().parent.parent
PRESETS = list_presets(REPOSITORY / PRESETS_DIR)


@pytest.fixture
def params_path(tmp_path: Path) -> Path:
    return Path(shutil.copy(REPOSITORY / "params.yaml", tmp_path / "params.yaml"))


def test_the_named_presets_are_there() -> None:
    assert {"demo", "mini", "coco/bicaptioning_R_50_L1_H2048"} <= set(PRESETS)


def words(path: Path) -> list[str]:
    """Values and comments; a long value may have pushed a comment to the right."""
    return path.read_text(encoding="utf-8").split()


@pytest.mark.parametrize("preset", PRESETS)
def test_preset_resolves_and_demo_leads_back(preset: str, params_path: Path) -> None:
    before = words(params_path)
    overlay(preset, (), params_path, REPOSITORY / PRESETS_DIR)
    check_params(params_path)
    assert preset in matching_presets(params_path, REPOSITORY / PRESETS_DIR)
    overlay("demo", (), params_path, REPOSITORY / PRESETS_DIR)
    assert words(params_path) == before


@pytest.mark.parametrize("preset", PRESETS)
def test_preset_says_how_to_run_it_and_what_to_expect(preset: str) -> None:
    header = (REPOSITORY / PRESETS_DIR / f"{preset}.yaml").read_text(encoding="utf-8").split("\n\n")[0]
    assert f"virtex run --preset {preset}" in header
    for word in ("Hardware:", "Expected:"):
        assert word in header
