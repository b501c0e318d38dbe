"""Families: what their rows change, and the paper's figures beside them."""

import shutil
from pathlib import Path

import pytest

from components.core.errors import InputError
from components.core.published import BEST_MODEL, TRANSFORMER_OBJECTIVES
from components.params import check_params, overlay
from components.params.families import (
    FAMILIES,
    chosen_family,
    digest_without_seeds,
    seed_overrides,
)
from components.params.yaml_files import load_yaml

REPOSITORY = Path(__file__).resolve().parents[3]
ROWS = [(family, row) for family in FAMILIES.values() if family.paper_base for row in family.rows]
# VOC07 mAP and ImageNet linear top-1 of arXiv 2006.06666v3, in the order of the rows.
PUBLISHED = {
    "tasks": [(88.7, 53.8), (88.6, 50.8), (88.8, 48.6), (86.2, 46.2), (86.4, 46.7)],
    "objectives": [(88.7, 53.8), (88.6, 50.8), (88.8, 48.6), (86.4, 46.7), *[None] * 5],
    "width": [(88.4, 51.8), (88.3, 52.3), (88.3, 53.2), (88.7, 53.8)],
    "depth": [(88.3, 53.2), (88.8, 53.8), (88.7, 53.9), (88.7, 53.9)],
    "backbone": [(88.3, 53.2), (88.5, 52.9), (88.7, 52.1)],
    "data": [None] * 7 + [(88.7, 53.8)],
    "seeds": [None],
}


@pytest.mark.parametrize("name", FAMILIES)
def test_rows_have_the_papers_figures(name):
    figures = [row.published and row.published.figures for row in FAMILIES[name].rows]
    assert [f and (f["voc07.mAP"], f["imagenet_linear.top1"]) for f in figures] == PUBLISHED[name]


@pytest.mark.parametrize(("family", "row"), ROWS, ids=lambda of: of.name)
def test_rows_on_the_papers_base_are_the_papers_runs(tmp_path, family, row):
    shutil.copy(REPOSITORY / "params.yaml", tmp_path)
    path = tmp_path / "params.yaml"
    overlay(family.paper_base, row.overrides, path, REPOSITORY / "presets")
    sections = check_params(path)
    published = (row.published or BEST_MODEL).setup
    assert sections["objective"].name == published.objective
    assert sections["backbone"].name == published.backbone
    assert sections["schedule"].iterations == published.iterations
    assert sections["pretrain"].batch_size == published.batch_size
    if published.objective in TRANSFORMER_OBJECTIVES:
        head = sections["textual_head"]
        assert (head.hidden_size, head.num_layers) == (published.hidden_size, published.num_layers)
    whole = (sections["subset"].image_fraction, sections["subset"].captions_per_image) == (1.0, None)
    assert whole == bool(row.published)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda of: of.name)
def test_each_row_sets_the_same_keys(family):
    keys = [[override.partition("=")[0] for override in row.overrides] for row in family.rows]
    assert all(of == keys[0] for of in keys)
    assert len({row.overrides for row in family.rows}) == len({row.name for row in family.rows})


def test_chosen_rows_come_in_the_familys_order():
    family = chosen_family("width", ["H2048", "H512"])
    assert [row.name for row in family.rows] == ["H512", "H2048"]
    assert chosen_family("width") == FAMILIES["width"]


def test_presets_are_a_family_too():
    family = chosen_family("presets", ["demo", "coco/a", "demo"])
    assert [(row.name, row.preset) for row in family.rows] == [("demo", "demo"), ("coco-a", "coco/a")]


def test_each_row_is_run_with_each_seed():
    family = chosen_family("width", ["H512", "H768"], num_seeds=2)
    names = ["H512", "H512-seed1", "H768", "H768-seed1"]
    assert [row.name for row in family.rows] == names
    assert [(row.group, row.seed) for row in family.rows[:2]] == [("H512", 0), ("H512", 1)]
    assert family.rows[1].overrides == family.rows[0].overrides
    assert [row.name for row in chosen_family("seeds").rows] == ["run", "run-seed1", "run-seed2"]


def test_all_seeds_move_but_those_of_the_data(tmp_path):
    shutil.copy(REPOSITORY / "params.yaml", tmp_path)
    path = tmp_path / "params.yaml"
    overlay(None, ["pretrain.seed=5", "download.drawn_world.seed=3"], path)
    before = load_yaml(path)
    overlay(None, seed_overrides(before, 2), path)
    after = load_yaml(path)
    assert (after["pretrain"]["seed"], after["baseline"]["seed"]) == (7, 2)
    assert after["download"] == before["download"]
    seeded = {name for name, of in after.items() if name != "download" and "seed" in of}
    assert {name for name in after if after[name] != before[name]} == seeded
    assert {"subset", "imagenet_linear", "inaturalist", "voc_detection"} < seeded
    assert digest_without_seeds(after) == digest_without_seeds(before)
    for override in ("download.drawn_world.seed=4", "schedule.iterations=699"):
        overlay(None, [override], path)
        assert digest_without_seeds(load_yaml(path)) != digest_without_seeds(before)
        overlay(None, ["download.drawn_world.seed=3"], path)


@pytest.mark.parametrize(
    ("family", "rows", "hint"), [("task", [], "`tasks`"), ("tasks", ["captoning"], "`captioning`")]
)
def test_unknown_names_are_told_the_nearest(family, rows, hint):
    with pytest.raises(InputError, match=hint):
        chosen_family(family, rows)
