"""The sections of params.yaml as frozen typed models; every rule a value must obey is here.

Defaults are deliberately absent: params.yaml is complete, and a value stands in one place only.
"""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from components.params.base import (
    Fraction,
    NonNegative,
    Positive,
    Section,
    area_share,
    as_pair,
    check_crop,
    ordered_pair,
    paper_heads,
)
from components.params.classification import ImagenetLinear, Inaturalist
from components.params.detection import CocoSegmentation, LvisSegmentation, VocDetection
from components.params.download import Download

PRETRAINED = "virtex"  # the backbone that this run pretrains, among those that benchmarks compare


class Tokenize(Section):
    """SentencePiece BPE vocabulary (paper, section 3.1)."""

    vocab_size: Annotated[int, Field(ge=8)]


class Lmdb(Section):
    """How images go into LMDB."""

    short_side: Annotated[int, Field(ge=16)] | None
    jpeg_quality: Annotated[int, Field(ge=1, le=100)]
    decoded: bool
    on_unreadable: Literal["refuse", "skip"]


class Augmentation(Section):
    """Training-image transform (paper, section 3.2)."""

    crop_size: Annotated[int, Field(ge=32)]
    crop_scale: tuple[float, float]
    crop_ratio: tuple[float, float]
    antialias: bool = True
    flip_probability: Fraction
    jitter_probability: Fraction
    brightness: Annotated[float, Field(ge=0.0)]
    contrast: Annotated[float, Field(ge=0.0)]
    saturation: Annotated[float, Field(ge=0.0)]
    hue: Annotated[float, Field(ge=0.0, le=0.5)]

    _pair = field_validator("crop_scale", "crop_ratio", mode="before")(as_pair)
    _share = field_validator("crop_scale")(area_share)
    _ordered = field_validator("crop_ratio")(ordered_pair)


class Backbone(Section):
    """The ConvNet; any torchvision ResNet (paper: resnet50)."""

    name: Annotated[str, Field(min_length=1)]
    zero_init_residual: bool


class TextualHead(Section):
    """The Transformer head (paper, section 3.1)."""

    hidden_size: Positive
    num_layers: Positive
    attention_heads: Positive | None
    feedforward_size: Positive | None
    norm: Literal["post", "pre"]
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)]
    max_caption_length: Annotated[int, Field(ge=3)]

    @property
    def num_heads(self) -> int:
        """Attention heads; the paper's number unless one is given."""
        return self.attention_heads or paper_heads(self.hidden_size)

    @property
    def ffn_size(self) -> int:
        """Feed-forward width; the paper's rule is four times the hidden size."""
        return self.feedforward_size or 4 * self.hidden_size

    @model_validator(mode="after")
    def _heads_divide(self) -> "TextualHead":
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of {self.num_heads} attention heads"
            )
        return self


class Objective(Section):
    """The pretraining task."""

    name: Literal[
        "bicaptioning", "captioning", "masked_lm", "token_classification", "multilabel_classification"
    ]


class Subset(Section):
    """The part of the training data to learn from (paper, section 4.1: data efficiency)."""

    image_fraction: Annotated[float, Field(gt=0.0, le=1.0)]
    captions_per_image: Positive | None
    seed: NonNegative


class Optimizer(Section):
    """SGD with momentum inside Lookahead (paper, section 3.2)."""

    backbone_lr: Annotated[float, Field(gt=0.0)]
    head_lr: Annotated[float, Field(gt=0.0)]
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)]
    weight_decay: Annotated[float, Field(ge=0.0)]
    no_weight_decay: str
    lookahead_steps: NonNegative
    lookahead_alpha: Annotated[float, Field(gt=0.0, le=1.0)]
    clip_grad_norm: Annotated[float, Field(gt=0.0)]

    @field_validator("no_weight_decay")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return pattern


class Schedule(Section):
    """Learning-rate multiplier by iteration."""

    name: Literal["cosine", "linear", "multistep", "none"]
    iterations: Positive
    warmup_iterations: NonNegative
    milestones: list[Positive]
    gamma: Annotated[float, Field(gt=0.0)]

    @model_validator(mode="after")
    def _in_order(self) -> "Schedule":
        if self.warmup_iterations >= self.iterations:
            raise ValueError(
                f"warmup_iterations {self.warmup_iterations} must be below iterations {self.iterations}"
            )
        if self.milestones != sorted(set(self.milestones)):
            raise ValueError(f"milestones must rise, got {self.milestones}")
        if self.name == "multistep" and not self.milestones:
            raise ValueError("multistep needs milestones")
        return self


class Pretrain(Section):
    """The training loop."""

    seed: NonNegative
    batch_size: Positive
    accumulate: Positive
    sync_batch_norm: bool
    precision: Literal["fp32", "fp16", "bf16"]
    channels_last: bool
    compile: bool
    validate_every: Positive
    checkpoint_every: Positive
    keep_checkpoints: Positive
    keep_candidates: Positive
    log_every: Positive
    profile: bool

    @model_validator(mode="after")
    def _parts_divide(self) -> "Pretrain":
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of accumulate {self.accumulate}"
            )
        return self


class Select(Section):
    """Which of pretraining's checkpoints later stages use (paper, section 4)."""

    by: Literal["voc07", "val_loss", "last"]
    split: Literal["test", "trainval"]


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

    @field_validator("backbones", "detection_backbones")
    @classmethod
    def _different(cls, backbones: list[str]) -> list[str]:
        if len(set(backbones)) != len(backbones):
            raise ValueError(f"each backbone once, got {', '.join(backbones)}")
        return backbones


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


class Caption(Section):
    """Beam-search captions of the validation images (paper, section 4.4)."""

    dataset: str
    image_size: Annotated[int, Field(ge=32)] | None = None
    antialias: bool = True
    beam_size: Positive
    batch_size: Positive
    max_images: Positive | None
    gallery_images: Positive


SECTIONS: dict[str, type[Section]] = {
    "download": Download,
    "tokenize": Tokenize,
    "lmdb": Lmdb,
    "augmentation": Augmentation,
    "backbone": Backbone,
    "textual_head": TextualHead,
    "objective": Objective,
    "subset": Subset,
    "optimizer": Optimizer,
    "schedule": Schedule,
    "pretrain": Pretrain,
    "select": Select,
    "baseline": Baseline,
    "benchmarks": Benchmarks,
    "voc07": Voc07,
    "imagenet_linear": ImagenetLinear,
    "inaturalist": Inaturalist,
    "coco_segmentation": CocoSegmentation,
    "lvis_segmentation": LvisSegmentation,
    "voc_detection": VocDetection,
    "caption": Caption,
}
DEFAULT_PATH = Path("params.yaml")
