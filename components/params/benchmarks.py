"""The sections of the benchmarks, and of the backbones that they compare."""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from components.params.sections import (
    Fraction,
    NonNegative,
    Positive,
    Rising,
    Section,
    area_share,
    as_pair,
    check_crop,
    each_once,
)

PRETRAINED = "virtex"  # the backbone that this run pretrains, among those that benchmarks compare


class Baseline(Section):
    """Backbones to compare with (paper, section 4), by name, and where their weights come from."""

    seed: NonNegative
    sources: dict[str, Annotated[str, Field(min_length=1)]]

    @field_validator("sources")
    @classmethod
    def _usable_names(cls, sources: dict[str, str]) -> dict[str, str]:
        for name in sources:
            if not re.fullmatch(r"[A-Za-z0-9_]+", name):
                raise ValueError(f"backbone name {name!r}: use letters, digits and _ only")
            if name == PRETRAINED:
                raise ValueError(f"backbone name {name!r} is that of this run's own; choose another")
        return sources


class Benchmarks(Section):
    """What the benchmarks have in common."""

    backbones: Annotated[list[str], Field(min_length=1)]
    detection_backbones: list[str]
    detection_memory_heavy: bool

    _different = field_validator("backbones", "detection_backbones")(each_once)


class Voc07(Section):
    """Linear SVMs on VOC2007 classification (paper, section 4.1)."""

    image_size: Annotated[int, Field(ge=32)]
    crop_size: Annotated[int, Field(ge=32)]
    antialias: bool = True
    batch_size: Positive
    costs: Annotated[list[Annotated[float, Field(gt=0.0)]], Field(min_length=1)]
    folds: Annotated[int, Field(ge=2)]
    positive_weight: Annotated[float, Field(gt=0.0)]
    max_iterations: Positive

    @model_validator(mode="after")
    def _crop_fits(self) -> "Voc07":
        check_crop(self.image_size, self.crop_size)
        return self


class Classification(Section):
    """Training a classifier on a backbone; what the benchmarks that do so have in common."""

    seed: NonNegative
    image_size: Annotated[int, Field(ge=32)]
    crop_size: Annotated[int, Field(ge=32)]
    antialias: bool = True
    crop_scale: tuple[float, float]
    batch_size: Positive
    epochs: Positive
    learning_rate: Annotated[float, Field(gt=0.0)]
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)]
    precision: Literal["fp32", "fp16", "bf16"]
    validate_every: Positive
    checkpoint_every: Positive
    log_every: Positive

    _pair = field_validator("crop_scale", mode="before")(as_pair)
    _share = field_validator("crop_scale")(area_share)

    @model_validator(mode="after")
    def _crop_fits(self) -> "Classification":
        check_crop(self.image_size, self.crop_size)
        return self


class ImagenetLinear(Classification):
    """Linear classifiers on frozen ImageNet features (paper, section 4.1)."""

    more_learning_rates: list[Annotated[float, Field(gt=0.0)]]
    holdout: Annotated[float, Field(ge=0.0, lt=1.0)]

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """That of the reported figures first, then the others."""
        return (self.learning_rate, *self.more_learning_rates)

    @model_validator(mode="after")
    def _different_rates(self) -> "ImagenetLinear":
        if len(set(self.learning_rates)) != len(self.learning_rates):
            raise ValueError(f"each learning rate once, got {list(self.learning_rates)}")
        return self


class Inaturalist(Classification):
    """Fine-tuning the whole backbone on iNaturalist 2018 (paper, section 4.3)."""

    weight_decay: Annotated[float, Field(ge=0.0)]
    milestones: Annotated[Rising, Field(min_length=1)]  # epochs
    gamma: Annotated[float, Field(gt=0.0)]
    many_above: NonNegative
    few_below: NonNegative

    @model_validator(mode="after")
    def _in_order(self) -> "Inaturalist":
        if self.few_below > self.many_above + 1:
            raise ValueError(f"few_below {self.few_below} is above many_above {self.many_above}")
        return self


VocSet = Annotated[str, Field(pattern=r"^\d{4}/(train|val|trainval|test)$")]


class Detection(Section):
    """What the three detection benchmarks have in common (paper, section 4.3; MoCo, appendix A)."""

    engine: Literal["torchvision", "detectron2"]
    seed: NonNegative
    iterations: Positive
    learning_rate: Annotated[float, Field(gt=0.0)]
    weight_decay: Annotated[float, Field(ge=0.0)]
    warmup_iterations: NonNegative
    milestones: Rising
    batch_size: Positive
    train_sizes: Annotated[list[Annotated[int, Field(ge=32)]], Field(min_length=1)]
    test_size: Annotated[int, Field(ge=32)]
    max_size: Annotated[int, Field(ge=32)]
    anchor_sizes: Annotated[Rising, Field(min_length=5, max_length=5)]
    anchors_per_image: Positive
    rois_per_image: Positive
    train_proposals: Positive
    test_proposals: Positive
    detections_per_image: Positive
    score_threshold: Fraction
    norm: Literal["batch", "frozen"]
    freeze_at: Annotated[int, Field(ge=0, le=5)]
    precise_bn_batches: NonNegative
    repeat_threshold: Fraction
    max_test_images: Positive | None
    checkpoint_every: Positive
    log_every: Positive
    gallery_images: Positive

    @model_validator(mode="after")
    def _fits(self) -> "Detection":
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


class Probes(Section):
    """Quick measures beside the paper's: of the frozen backbones, and of the captioner."""

    which: list[Literal["knn", "few_shot", "attentive", "segmentation", "zero_shot", "retrieval"]]
    prompt: str
    attentive_epochs: Positive
    segmentation_size: Annotated[int, Field(ge=32)]
    segmentation_epochs: Positive
    retrieval_images: Annotated[int, Field(ge=2)] | None

    _different = field_validator("which")(each_once)

    @field_validator("prompt")
    @classmethod
    def _has_place(cls, prompt: str) -> str:
        if "{}" not in prompt:
            raise ValueError(f"{prompt!r} has no {{}} in the place of the class")
        return prompt


class Caption(Section):
    """Captions of the validation images (paper, section 4.4: by beam search)."""

    dataset: str
    image_size: Annotated[int, Field(ge=32)] | None = None
    antialias: bool = True
    beam_size: Positive
    nucleus: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    batch_size: Positive
    max_images: Positive | None
    gallery_images: Positive
