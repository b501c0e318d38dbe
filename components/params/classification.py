"""The sections of the benchmarks that train a classifier."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from components.params.base import NonNegative, Positive, Section, area_share, as_pair, check_crop


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
    milestones: list[Positive]
    gamma: Annotated[float, Field(gt=0.0)]
    many_above: NonNegative
    few_below: NonNegative

    @model_validator(mode="after")
    def _in_order(self) -> "Inaturalist":
        if not self.milestones or self.milestones != sorted(set(self.milestones)):
            raise ValueError(f"milestones: epochs that rise, at least one, got {self.milestones}")
        if self.few_below > self.many_above + 1:
            raise ValueError(f"few_below {self.few_below} is above many_above {self.many_above}")
        return self
