from dataclasses import replace

import pytest

from components.published import BENCHMARKS, BEST_MODEL, MODELS, paper_figure, published_model


def test_best_model_has_the_published_figures() -> None:
    assert BEST_MODEL.figures["voc07.mAP"] == 88.7
    assert BEST_MODEL.figures["imagenet_linear.top1"] == 53.8
    assert BEST_MODEL.figures["coco_segmentation.box_AP"] == 40.9


def test_captioning_figures_are_those_of_the_resnet101() -> None:
    (model,) = (model for model in MODELS if "caption.CIDEr-D" in model.figures)
    assert (model.setup.backbone, model.setup.hidden_size) == ("resnet101", 1024)
    assert paper_figure(BEST_MODEL, "caption.CIDEr-D") == 94.0
    assert paper_figure(BEST_MODEL, "voc07.mAP") == 88.7
    masked_lm = next(model for model in MODELS if model.setup.objective == "masked_lm")
    assert paper_figure(masked_lm, "caption.CIDEr-D") is None


def test_every_figure_belongs_to_a_row_of_the_report() -> None:
    keys = [benchmark.key for benchmark in BENCHMARKS]
    assert len(keys) == len(set(keys))
    assert {key for model in MODELS for key in model.figures} <= set(keys)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_a_run_is_held_against_the_model_of_its_architecture(model: object) -> None:
    assert published_model(replace(model.setup, iterations=3, captions="mine")) is model  # type: ignore[attr-defined]


def test_head_sizes_do_not_matter_without_a_transformer() -> None:
    setup = replace(BEST_MODEL.setup, objective="token_classification", hidden_size=64, num_layers=9)
    assert published_model(setup).figures["voc07.mAP"] == 88.8


def test_an_unpublished_architecture_is_held_against_the_best_of_its_task() -> None:
    assert published_model(replace(BEST_MODEL.setup, backbone="resnet18")) is BEST_MODEL
    setup = replace(BEST_MODEL.setup, backbone="resnet18", objective="masked_lm")
    assert published_model(setup).name == "masked_lm, resnet50, L1 H2048"
