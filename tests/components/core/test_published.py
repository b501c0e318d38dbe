from dataclasses import replace

import pytest
import torchvision.models

from components.core.published import (
    BENCHMARKS,
    BEST_MODEL,
    GROUPS,
    IMAGENET_FIGURES,
    MODELS,
    imagenet_figure,
    paper_figure,
    published_model,
)


def test_best_model_has_the_published_figures() -> None:
    assert BEST_MODEL.figures["voc07.mAP"] == 88.7
    assert BEST_MODEL.figures["imagenet_linear.top1"] == 53.8
    assert BEST_MODEL.figures["coco_segmentation.box.AP"] == 40.9
    assert BEST_MODEL.figures["coco_segmentation.mask.AP75"] == 39.7


def test_captioning_figures_are_those_of_the_resnet101() -> None:
    (model,) = (model for model in MODELS if "caption.CIDEr-D" in model.figures)
    assert (model.setup.backbone, model.setup.hidden_size) == ("resnet101", 1024)
    assert paper_figure(BEST_MODEL, "caption.CIDEr-D") == (94.0, model)
    assert paper_figure(BEST_MODEL, "voc07.mAP") == (88.7, BEST_MODEL)
    masked_lm = next(model for model in MODELS if model.setup.objective == "masked_lm")
    assert paper_figure(masked_lm, "caption.CIDEr-D") is None


def test_every_figure_belongs_to_a_row_of_the_report() -> None:
    keys = [benchmark.key for benchmark in BENCHMARKS]
    assert len(keys) == len(set(keys))
    assert {key for model in MODELS for key in model.figures} <= set(keys)
    assert {key for figures in IMAGENET_FIGURES.values() for key in figures} <= set(keys)
    assert [benchmark.group for benchmark in BENCHMARKS if benchmark.is_headline] == sorted(
        (benchmark.group for benchmark in BENCHMARKS if benchmark.is_headline), key=list(GROUPS).index
    )


@pytest.mark.parametrize("name", IMAGENET_FIGURES)
def test_imagenet_supervised_figures_are_torchvisions(name: str) -> None:
    published = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"].meta["_metrics"]["ImageNet-1K"]
    assert IMAGENET_FIGURES[name]["imagenet_linear.top1"] == pytest.approx(published["acc@1"], abs=0.051)
    assert IMAGENET_FIGURES[name]["imagenet_linear.top5"] == pytest.approx(published["acc@5"], abs=0.051)


def test_the_imagenet_row_is_of_the_papers_architecture() -> None:
    assert imagenet_figure(BEST_MODEL, "imagenet_linear.top1") == 76.1
    assert imagenet_figure(BEST_MODEL, "voc07.mAP") is None
    assert {model.setup.backbone for model in MODELS} <= IMAGENET_FIGURES.keys()


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
