"""The sections of the detection benchmarks."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from components.params.base import Fraction, NonNegative, Positive, Section

VocSet = Annotated[str, Field(pattern=r"^\d{4}/(train|val|trainval|test)$")]


class Detection(Section):
    """What the three detection benchmarks have in common (paper, section 4.3; MoCo, appendix A)."""

    engine: Literal["torchvision", "detectron2"]
    seed: NonNegative
    iterations: Positive
    learning_rate: Annotated[float, Field(gt=0.0)]
    weight_decay: Annotated[float, Field(ge=0.0)]
    warmup_iterations: NonNegative
    milestones: list[Positive]
    batch_size: Positive
    train_sizes: Annotated[list[Annotated[int, Field(ge=32)]], Field(min_length=1)]
    test_size: Annotated[int, Field(ge=32)]
    max_size: Annotated[int, Field(ge=32)]
    anchor_sizes: Annotated[list[Positive], Field(min_length=5, max_length=5)]
    rois_per_image: Positive
    train_proposals: Positive
    test_proposals: Positive
    detections_per_image: Positive
    score_threshold: Fraction
    norm: Literal["batch", "frozen"]
    precise_bn_batches: NonNegative
    repeat_threshold: Fraction
    max_test_images: Positive | None
    checkpoint_every: Positive
    log_every: Positive
    gallery_images: Positive

    @model_validator(mode="after")
    def _fits(self) -> "Detection":
        if self.milestones != sorted(set(self.milestones)):
            raise ValueError(f"milestones must rise, got {self.milestones}")
        if self.anchor_sizes != sorted(set(self.anchor_sizes)):
            raise ValueError(f"anchor_sizes must rise, got {self.anchor_sizes}")
        if max(*self.train_sizes, self.test_size) > self.max_size:
            raise ValueError(f"max_size {self.max_size} is below one of the shorter sides")
        return self


class Segmentation(Detection):
    """Mask R-CNN with a feature pyramid."""

    head_channels: Positive


class CocoSegmentation(Segmentation):
    """Mask R-CNN on a captioned dataset in COCO's layout that has instances too."""

    dataset: str


class LvisSegmentation(Segmentation):
    """Mask R-CNN on LVIS v1."""


class VocDetection(Detection):
    """Faster R-CNN C4 on VOC; sets are written ``<year>/<split>``."""

    train_sets: Annotated[list[VocSet], Field(min_length=1)]
    test_sets: Annotated[list[VocSet], Field(min_length=1)]
    region_cells: Positive
