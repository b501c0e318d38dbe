"""What the sections of params.yaml are made of: their base, common types, and rules that several share."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1)]
NonNegative = Annotated[int, Field(ge=0)]
CHECKSUM_MARK = "#sha256="  # may follow the path or URL of weights, before 64 hexadecimal digits


class Section(BaseModel):
    """Base of all sections: frozen, strict types, finite numbers, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def as_pair(value: object) -> object:
    """A list, as YAML has it, as the tuple that a strict section wants."""
    return tuple(value) if isinstance(value, list) else value


def ordered_pair(pair: tuple[float, float]) -> tuple[float, float]:
    """``[smallest, largest]``, both above 0."""
    if not 0.0 < pair[0] <= pair[1]:
        raise ValueError(f"expected [smallest, largest] with 0 < smallest <= largest, got {list(pair)}")
    return pair


def area_share(pair: tuple[float, float]) -> tuple[float, float]:
    """The smallest and largest share of an image's area that a crop may have."""
    if ordered_pair(pair)[1] > 1.0:
        raise ValueError(f"a share of the image's area is at most 1, got {list(pair)}")
    return pair


def check_crop(image_size: int, crop_size: int) -> None:
    """Refuse a centre crop larger than the shorter side it is taken from."""
    if crop_size > image_size:
        raise ValueError(f"crop_size {crop_size} is larger than image_size {image_size}")


def paper_heads(hidden_size: int) -> int:
    """Return the paper's number of attention heads: one per 64 hidden units."""
    return max(1, hidden_size // 64)
