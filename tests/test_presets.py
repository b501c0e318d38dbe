"""Every preset resolves to a valid configuration, `demo` leads back to the default, coco/ is the paper."""

import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components.core.published import CAPTIONED_IMAGES, LABELLED_IMAGES, MODELS, PublishedModel, Setup
from components.params import check_params, list_presets, matching_presets, overlay
from components.params.presets import FREE_MAPPINGS, PRESETS_DIR, UNTOUCHED, read_preset, write_default
from components.params.yaml_files import load_yaml

REPOSITORY = Path(__file__).resolve().parent.parent
PRESETS = list_presets(REPOSITORY / PRESETS_DIR)


@pytest.fixture
def params_path(tmp_path: Path) -> Path:
    return Path(shutil.copy(REPOSITORY / "params.yaml", tmp_path / "params.yaml"))


def test_the_named_presets_are_there() -> None:
    assert {"demo", "mini", "photographs", "coco/bicaptioning_R_50_L1_H2048"} <= set(PRESETS)


def words(path: Path) -> list[str]:
    """Values and comments; a long value may have pushed a comment to the right."""
    return path.read_text(encoding="utf-8").split()


@pytest.mark.parametrize("preset", PRESETS)
def test_preset_resolves_and_demo_leads_back(preset: str, params_path: Path) -> None:
    before = words(params_path)
    overlay(preset, (), params_path, REPOSITORY / PRESETS_DIR)
    check_params(params_path)
    assert matching_presets(params_path, REPOSITORY / PRESETS_DIR)[0] == preset
    overlay("demo", (), params_path, REPOSITORY / PRESETS_DIR)
    assert words(params_path) == before


def test_the_values_of_the_default_stand_in_params_yaml_alone(tmp_path: Path) -> None:
    """Then `make presets` writes the preset that leads back to them."""
    shipped = REPOSITORY / PRESETS_DIR / "demo.yaml"
    shutil.copy(shipped, tmp_path)
    write_default(REPOSITORY / "params.yaml", tmp_path)
    assert (tmp_path / "demo.yaml").read_text() == shipped.read_text(), "run `make presets`"


GALLERY = re.compile(r".*\.gallery_images")  # what a reader sees
DRAWN = re.compile(r"download\.drawn_world")


def leaves(tree: Mapping[str, Any], parents: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        location = (*parents, key)
        if isinstance(value, Mapping) and location not in FREE_MAPPINGS:
            yield from leaves(value, location)
        else:
            yield ".".join(location), value


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_says_all_that_it_means(preset: str) -> None:
    """So that it means the same whatever was in force before it."""
    said = dict(leaves(read_preset(preset, REPOSITORY / PRESETS_DIR)))
    free = [UNTOUCHED, GALLERY, *([] if said["download.source"] == "drawn_world" else [DRAWN])]
    unsaid = {
        key
        for key, _ in leaves(load_yaml(REPOSITORY / "params.yaml"))
        if key not in said and not any(pattern.match(key) for pattern in free)
    }
    assert not unsaid


def test_a_preset_after_another_one_is_the_same(params_path: Path) -> None:
    """Imagenette and Flowers of `photographs` are not what the paper's protocols run on."""
    after_shipped = Path(shutil.copy(params_path, params_path.with_name("after_shipped.yaml")))
    best = "coco/bicaptioning_R_50_L1_H2048"
    names = ("photographs", best, "coco/multilabel_classification_R_50", "mini", "photographs", "demo")
    for preset in names:
        overlay(preset, (), params_path, REPOSITORY / PRESETS_DIR)
        shutil.copy(REPOSITORY / "params.yaml", after_shipped)
        overlay(preset, (), after_shipped, REPOSITORY / PRESETS_DIR)
        found, expected = (dict(leaves(load_yaml(path))) for path in (params_path, after_shipped))
        assert found == expected


@pytest.mark.parametrize("preset", PRESETS)
def test_only_the_papers_presets_choose_checkpoints_on_test_images(preset: str) -> None:
    selected = read_preset(preset, REPOSITORY / PRESETS_DIR)["select"]
    assert selected["by"] == "voc07"
    assert selected["split"] == ("test" if preset.startswith(("coco/", "objectives/")) else "trainval")


def test_the_linear_probe_of_the_paper_is_in_float32() -> None:
    """The public code switches mixed precision off there, and nowhere else."""
    for preset in COCO:
        said = dict(leaves(read_preset(preset, REPOSITORY / PRESETS_DIR)))
        precisions = [said[f"{name}.precision"] for name in ("pretrain", "imagenet_linear", "inaturalist")]
        assert precisions == ["fp16", "fp32", "fp16"]


COCO = [preset for preset in PRESETS if preset.startswith("coco/")]
FIGURES = re.compile(r"VOC07 ([\d.]+) mAP, ImageNet linear ([\d.]+) % top-1")


def setup_of(preset: str, params_path: Path) -> Setup:
    """What the preset trains, as the report sees it; the numbers of images are the data's."""
    overlay(preset, (), params_path, REPOSITORY / PRESETS_DIR)
    found: Any = SimpleNamespace(**check_params(params_path))
    labels = found.objective.name == "multilabel_classification"
    images = LABELLED_IMAGES if labels else CAPTIONED_IMAGES
    return Setup(
        captions="COCO Captions" if found.download.captioned_datasets == ["coco"] else "others",
        captioned_images=round(images * found.subset.image_fraction),
        captions_per_image=found.subset.captions_per_image or "all",
        backbone=found.backbone.name,
        objective=found.objective.name,
        hidden_size=found.textual_head.hidden_size,
        num_layers=found.textual_head.num_layers,
        iterations=found.schedule.iterations,
        batch_size=found.pretrain.batch_size,
        voc07_test_images=4_952,
    )


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_each_published_row_is_a_preset_with_its_figures(model: PublishedModel, params_path: Path) -> None:
    preset = next(preset for preset in COCO if setup_of(preset, params_path) == model.setup)
    header = (REPOSITORY / PRESETS_DIR / f"{preset}.yaml").read_text(encoding="utf-8")
    figures = FIGURES.search(header)
    assert figures is not None
    assert tuple(map(float, figures.groups())) == (
        model.figures["voc07.mAP"],
        model.figures["imagenet_linear.top1"],
    )


def test_data_efficiency_is_the_best_model_with_less_data(params_path: Path) -> None:
    name = "coco/bicaptioning_R_50_L1_H2048"
    best = setup_of(name, params_path)
    rows = {
        f"images_{percent}": {"captioned_images": round(CAPTIONED_IMAGES * percent / 100)}
        for percent in (10, 20, 50)
    }
    rows |= {f"captions_{number}": {"captions_per_image": number} for number in range(1, 6)}
    assert len(COCO) == len(MODELS) + len(rows)
    for row, change in rows.items():
        assert setup_of(f"{name}_{row}", params_path) == replace(best, **change)


@pytest.mark.parametrize("preset", PRESETS)
def test_preset_says_how_to_run_it_and_what_to_expect(preset: str) -> None:
    header = (REPOSITORY / PRESETS_DIR / f"{preset}.yaml").read_text(encoding="utf-8")
    assert f"virtex run --preset {preset}" in header
    for word in ("Hardware:", "Expected:"):
        assert word in header
