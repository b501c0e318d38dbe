import logging
from pathlib import Path
from typing import Any

import pytest

from components.benchmarks.classification import imagenet_linear, inaturalist
from components.params import check_params, overlay
from components.params.presets import PRESETS_DIR

PAPERS = {"imagenet_linear": imagenet_linear.PAPER, "inaturalist": inaturalist.PAPER}
REPOSITORY = Path(__file__).resolve().parents[4]


@pytest.fixture(scope="module")
def sections(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Of a preset of the paper, and of the shipped file."""
    path = tmp_path_factory.mktemp("params") / "params.yaml"
    path.write_bytes((REPOSITORY / "params.yaml").read_bytes())
    shipped = dict(check_params(path))
    overlay("coco/captioning_R_50_L1_H2048", (), path, REPOSITORY / PRESETS_DIR)
    return {"shipped": shipped, "paper": dict(check_params(path))}


@pytest.mark.parametrize(
    ("stage", "preset", "num_classes", "warned"),
    [
        ("imagenet_linear", "paper", 1_000, False),
        ("imagenet_linear", "paper", 10, True),  # Imagenette
        ("imagenet_linear", "shipped", 10, False),  # claims nothing
        ("inaturalist", "paper", 8_142, False),
        ("inaturalist", "paper", 17, True),  # Oxford Flowers
        ("inaturalist", "shipped", 17, False),
    ],
)
def test_the_papers_protocol_on_other_classes_is_told(
    sections: dict[str, dict[str, Any]],
    caplog: pytest.LogCaptureFixture,
    stage: str,
    preset: str,
    num_classes: int,
    warned: bool,
) -> None:
    with caplog.at_level(logging.WARNING):
        assert PAPERS[stage].warn_of_other_classes(stage, sections[preset][stage], num_classes) is warned
    assert (f"have {num_classes} classes and {PAPERS[stage].dataset} has" in caplog.text) is warned
