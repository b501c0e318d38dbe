"""What params.yaml says of the set-up that results are reported for."""

from components import params
from components.core.published import Setup

SETUP_SECTIONS = ("download", "backbone", "textual_head", "objective", "subset", "schedule", "pretrain")


def configured_setup(
    download: params.Download,
    backbone: params.Backbone,
    textual_head: params.TextualHead,
    objective: params.Objective,
    subset: params.Subset,
    schedule: params.Schedule,
    pretrain: params.Pretrain,
) -> Setup:
    """The set-up without its numbers of images, which the results know."""
    return Setup(
        captions=_captions(download),
        captioned_images=None,
        captions_per_image="all" if subset.captions_per_image is None else subset.captions_per_image,
        backbone=backbone.name,
        objective=objective.name,
        hidden_size=textual_head.hidden_size,
        num_layers=textual_head.num_layers,
        iterations=schedule.iterations,
        batch_size=pretrain.batch_size,
        voc07_test_images=None,
    )


def _captions(download: params.Download) -> str:
    """Datasets that were pretrained on; ``coco`` alone is taken for COCO Captions."""
    if download.source == "drawn_world":
        return "drawn world"
    names = download.captioned_datasets
    return "COCO Captions" if names == ["coco"] else " + ".join(names)
