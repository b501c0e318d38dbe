"""What the sections of params.yaml are made of, and those of pretraining.

Every rule that a value must obey stands here or, of data and benchmarks, in the files beside. Defaults are
deliberately absent: params.yaml is complete, and a value stands in one place only.
"""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Momentum = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[int, Field(ge=1)]
NonNegative = Annotated[int, Field(ge=0)]
SequenceT = TypeVar("SequenceT", bound=Sequence[Any])
MAX_SHARDS = 1024
CHECKSUM_MARK = "#sha256="  # may follow the path or URL of weights, before 64 hexadecimal digits


TIMM = "timm/"  # begins the names of timm's networks


def is_timm(name: str) -> bool:
    """Return whether a backbone is a network of timm."""
    return name.startswith(TIMM)


class Section(BaseModel):
    """Base of all sections: frozen, strict types, finite numbers, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def _rising(values: list[int]) -> list[int]:
    if values != sorted(set(values)):
        raise ValueError(f"must rise, got {values}")
    return values


Rising = Annotated[list[Positive], AfterValidator(_rising)]


def as_pair(value: object) -> object:
    """Return a list, as YAML has it, as the tuple that a strict section wants."""
    return tuple(value) if isinstance(value, list) else value


def ordered_pair(pair: tuple[float, float]) -> tuple[float, float]:
    """Require ``[smallest, largest]``, both above 0."""
    if not 0.0 < pair[0] <= pair[1]:
        raise ValueError(f"expected [smallest, largest] with 0 < smallest <= largest, got {list(pair)}")
    return pair


def area_share(pair: tuple[float, float]) -> tuple[float, float]:
    """Require the smallest and largest share of an image's area that a crop may have."""
    if ordered_pair(pair)[1] > 1.0:
        raise ValueError(f"a share of the image's area is at most 1, got {list(pair)}")
    return pair


def each_once(values: SequenceT) -> SequenceT:
    """Refuse values that are given twice."""
    for place, value in enumerate(values):
        if value in values[:place]:
            raise ValueError(f"{value} is named twice")
    return values


def check_crop(image_size: int, crop_size: int) -> None:
    """Refuse a centre crop larger than the shorter side it is taken from."""
    if crop_size > image_size:
        raise ValueError(f"crop_size {crop_size} is larger than image_size {image_size}")


def paper_heads(hidden_size: int) -> int:
    """Return the paper's number of attention heads: one per 64 hidden units."""
    return max(1, hidden_size // 64)


class Tokenize(Section):
    """SentencePiece BPE vocabulary (paper, section 3.1)."""

    vocab_size: Annotated[int, Field(ge=8)]


class Lmdb(Section):
    """How images go into LMDB."""

    short_side: Annotated[int, Field(ge=16)] | None
    jpeg_quality: Annotated[int, Field(ge=1, le=100)]
    decoded: bool
    shards: list[int] = []
    on_unreadable: Literal["refuse", "skip"]

    @field_validator("shards", mode="before")
    @classmethod
    def _numbers(cls, value: object) -> object:
        """Require what a matrix of dvc.yaml can go through, and no two ways to say one thing."""
        numbers = value if isinstance(value, list) else [None]
        is_whole = all(isinstance(number, int) and not isinstance(number, bool) for number in numbers)
        if not is_whole or len(numbers) > MAX_SHARDS or numbers != list(range(len(numbers))):
            raise ValueError(
                "dvc.yaml needs the numbers of all shards, as [0, 1, 2, 3], or [] for one file; "
                f"`virtex run --set lmdb.shards=4` writes them, {MAX_SHARDS:,} at most"
            )
        return value


class Stream(Section):
    """How WebDataset tars on a server are read."""

    train: bool
    mixed_tars: Positive | None
    cache_gib: Annotated[float, Field(gt=0.0)]


class Augmentation(Section):
    """Training-image transform (paper, section 3.2)."""

    crop_size: Annotated[int, Field(ge=32)]
    crop_sizes: list[tuple[Fraction, Annotated[int, Field(ge=32)]]] | None = None
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

    @field_validator("crop_sizes", mode="before")
    @classmethod
    def _pairs(cls, values: object) -> object:
        return [as_pair(value) for value in values] if isinstance(values, list) else values

    @model_validator(mode="after")
    def _grows(self) -> "Augmentation":
        if self.crop_sizes is None:
            return self
        starts, sizes = ([pair[place] for pair in self.crop_sizes] for place in (0, 1))
        if starts[:1] != [0] or starts[-1] >= 1 or any(a >= b for a, b in pairwise(starts)):
            raise ValueError(f"crop_sizes: fractions begin with 0, rise and stay below 1, got {starts}")
        if sizes[-1] != self.crop_size or any(a >= b for a, b in pairwise(sizes)):
            raise ValueError(f"crop_sizes: sizes rise, the last to crop_size {self.crop_size}, got {sizes}")
        return self


class Backbone(Section):
    """The ConvNet; any torchvision ResNet (paper: resnet50), or ``timm/`` before a network of timm."""

    name: Annotated[str, Field(min_length=1)]
    zero_init_residual: bool
    drop_path: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0  # files of older captioners lack it


class TextualHead(Section):
    """The Transformer head (paper, section 3.1)."""

    hidden_size: Positive
    num_layers: Positive
    attention_heads: Positive | None
    feedforward_size: Positive | None
    norm: Literal["post", "pre"]
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)]
    max_caption_length: Annotated[int, Field(ge=3)]
    # The paper's start by default: files of captioners that were made before these keys lack them.
    init_std: Annotated[float, Field(gt=0.0)] = 0.02
    embedding_init_std: Annotated[float, Field(gt=0.0)] = 0.02

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
        "bicaptioning",
        "captioning",
        "masked_lm",
        "token_classification",
        "multilabel_classification",
        "parallel_captioning",
        "parallel_bicaptioning",
        "idf_token_classification",
        "contrastive",
        "contrastive_classification",
    ]
    # Files of models that were made before these keys lack them.
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    parallel_share: Fraction = 0.75
    contrastive_bias: float = -10.0


class Subset(Section):
    """The part of the training data to learn from (paper, section 4.1: data efficiency)."""

    image_fraction: Annotated[float, Field(gt=0.0, le=1.0)]
    captions_per_image: Positive | None
    seed: NonNegative


class Optimizer(Section):
    """SGD with momentum (paper, section 3.2), or AdamW in its place; either inside Lookahead."""

    name: Literal["sgd", "adamw"]
    backbone_lr: Annotated[float, Field(gt=0.0)]
    head_lr: Annotated[float, Field(gt=0.0)]
    momentum: Momentum
    betas: tuple[Momentum, Momentum]
    epsilon: Annotated[float, Field(gt=0.0)]
    weight_decay: Annotated[float, Field(ge=0.0)]
    no_weight_decay: str
    lookahead_steps: NonNegative
    lookahead_alpha: Annotated[float, Field(gt=0.0, le=1.0)]
    clip_grad_norm: Annotated[float, Field(gt=0.0)]

    _pair = field_validator("betas", mode="before")(as_pair)

    @field_validator("no_weight_decay")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return pattern

    @property
    def num_states(self) -> int:
        """Numbers kept for each weight: running means, and Lookahead's slow weight."""
        means = 2 if self.name == "adamw" else int(self.momentum > 0)
        return means + (self.lookahead_steps > 0)


class Schedule(Section):
    """Learning-rate multiplier by iteration."""

    name: Literal["cosine", "linear", "multistep", "none"]
    iterations: Positive
    warmup_iterations: NonNegative
    milestones: Rising
    gamma: Annotated[float, Field(gt=0.0)]

    @model_validator(mode="after")
    def _in_order(self) -> "Schedule":
        if self.warmup_iterations >= self.iterations:
            raise ValueError(
                f"warmup_iterations {self.warmup_iterations} must be below iterations {self.iterations}"
            )
        if self.name == "multistep" and not self.milestones:
            raise ValueError("multistep needs milestones")
        return self


class Pretrain(Section):
    """The training loop."""

    seed: NonNegative
    start_from: Annotated[str, Field(min_length=1)] | None
    start_tokenizer: Annotated[str, Field(min_length=1)] | None
    freeze_backbone: NonNegative
    batch_size: Positive
    accumulate: Positive
    shard_groups: Positive = 1
    sync_batch_norm: bool
    precision: Literal["auto", "fp32", "fp16", "bf16"]
    channels_last: bool
    compile: bool | Literal["reduce-overhead"]
    caption_lengths: Annotated[Rising, Field(min_length=1)] | None
    validate_every: Positive
    checkpoint_every: Positive
    keep_checkpoints: Positive
    keep_candidates: Positive
    measure_candidates: bool
    log_every: Positive
    profile: bool

    @model_validator(mode="after")
    def _parts_divide(self) -> "Pretrain":
        if self.compile == "reduce-overhead" and self.accumulate > 1:
            raise ValueError("compile: reduce-overhead keeps one set of gradients; accumulate must be 1")
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of accumulate {self.accumulate}"
            )
        if self.batch_size % (self.accumulate * self.shard_groups):
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of accumulate {self.accumulate} times "
                f"shard_groups {self.shard_groups}"
            )
        return self


class Select(Section):
    """Which of pretraining's checkpoints later stages use (paper, section 4)."""

    by: Literal["voc07", "val_loss", "last"]
    split: Literal["test", "trainval"]
