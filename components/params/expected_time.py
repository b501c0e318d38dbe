"""How long pretraining takes on common hardware, computed from stated rates; nothing is measured here.

An image costs the backbone's convolutions, which go at the rate of a ResNet-50 there, and the textual head's
matrix products, which go at a rate of their own. Forward and backward are three times forward.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from components.params.reading import section_of
from components.params.sections import (
    Augmentation,
    Backbone,
    Objective,
    Pretrain,
    Schedule,
    Section,
    TextualHead,
    Tokenize,
)

# GFLOP of an image of 224 px, forward: twice the multiplications that torchvision's documentation gives
BACKBONE_GFLOP = {
    "resnet18": 3.6, "resnet34": 7.3, "resnet50": 8.1, "resnet101": 15.6, "resnet152": 23.0,
    "resnext50_32x4d": 8.5, "resnext101_32x8d": 32.8, "wide_resnet50_2": 22.8, "wide_resnet101_2": 45.5,
}  # fmt: skip
TOKENS = 20  # of a caption, on average, with [SOS] and [EOS]: COCO's, as of the rates below
POSITIONS, FEATURES = 49, 2048  # of ResNet-50's feature map at 224 px
SMALLEST_CROP = 112  # pixels; with smaller images loading and the rest count as much as arithmetic
DIRECTIONS = {"bicaptioning": 2, "captioning": 1, "masked_lm": 1}


@dataclass(frozen=True, slots=True)
class ImageCost:
    """Arithmetic of an image in training: ``backbones``, in ResNet-50s at 224 px, and the head's GFLOP."""

    backbones: float
    head_gflop: float


@dataclass(frozen=True, slots=True)
class Hardware:
    """What trains.

    Attributes:
        name: for people.
        images: per second of a ResNet-50 at 224 px, all of it together.
        head_gflops: GFLOP/s of the head's matrix products.
        dollars: per hour; a round figure to put your own in the place of; None: not for rent.
        source: of the rate, and whether it was measured.
    """

    name: str
    images: float
    head_gflops: float
    dollars: float | None
    source: str

    def rate(self, cost: ImageCost) -> float:
        """Return images per second of pretraining."""
        return 1 / (cost.backbones / self.images + cost.head_gflop / self.head_gflops)


CEILING = Hardware(
    "1 H200, practical ceiling", 6_900, 400_000, 3.5, "computed: MLPerf 3.0's ResNet-50 per H100"
)
HARDWARE = (
    Hardware("2 CPU cores, float32", 6.1, 149, None, "computed from 149 GFLOP/s, measured"),
    Hardware("2 CPU cores, bf16", 11.6, 283, None, "computed from 283 GFLOP/s, measured"),
    Hardware(
        "8 RTX 2080 Ti", 1_950, 47_500, None, "computed from the paper's 35 to 40 hours, taken for H2048"
    ),
    Hardware(
        "1 A100", 2_470, 126_000, 1.5, "estimated from a published 2,470 images/s of the backbone alone"
    ),
    Hardware(
        "1 H200, usual PyTorch", 2_800, 400_000, 3.5, "estimated: 2,650 (H1024) and 2,360 images/s (H2048)"
    ),
    CEILING,
)


@dataclass(frozen=True, slots=True)
class Expected:
    """Images per second, hours of all iterations, and dollars, on some hardware."""

    hardware: Hardware
    rate: float
    hours: float

    @property
    def dollars(self) -> float | None:
        """Return the price of these hours."""
        return None if self.hardware.dollars is None else self.hours * self.hardware.dollars


def image_cost(
    backbone: str, crop_size: int, objective: str, head: TextualHead, words: int
) -> ImageCost | None:
    """Return what an image costs, predicted among so many ``words``; None where these rates say nothing."""
    if backbone not in BACKBONE_GFLOP or crop_size < SMALLEST_CROP:
        return None
    area = (crop_size / 224) ** 2
    directions = DIRECTIONS.get(objective.removeprefix("parallel_"))
    gflop = 0.0 if directions is None else _head_gflop(head, words, directions, area)  # else small beside it
    return ImageCost(BACKBONE_GFLOP[backbone] / BACKBONE_GFLOP["resnet50"] * area, gflop)


def _head_gflop(head: TextualHead, words: int, directions: int, area: float) -> float:
    """Return the head's GFLOP per image, forward and backward; ``area`` of images, as a share of 224 px."""
    size, positions = head.hidden_size, POSITIONS * area
    layer = 2 * size * (6 * size + 2 * head.ffn_size) * TOKENS + 4 * size**2 * positions
    reading = head.num_layers * layer + 2 * size * words * TOKENS
    return 3e-9 * (directions * reading + 2 * size * FEATURES * positions)


def expected_times(sections: Mapping[str, Section]) -> list[Expected]:
    """Return what pretraining takes on each hardware; nothing where these rates say nothing."""
    images = section_of(sections, Schedule).iterations * section_of(sections, Pretrain).batch_size
    cost = image_cost(
        section_of(sections, Backbone).name,
        section_of(sections, Augmentation).crop_size,
        section_of(sections, Objective).name,
        section_of(sections, TextualHead),
        section_of(sections, Tokenize).vocab_size,
    )
    rates = [(hardware, hardware.rate(cost)) for hardware in HARDWARE] if cost else []
    return [Expected(hardware, rate, images / rate / 3600) for hardware, rate in rates]


def ceiling_share(cost: ImageCost | None, images_per_second: float, gpus: Sequence[str]) -> float | None:
    """Return the share of the practical ceiling; None unless all ``gpus``, by name, are H100s or H200s."""
    is_known = bool(gpus) and all("H100" in name or "H200" in name for name in gpus)
    return images_per_second / (len(gpus) * CEILING.rate(cost)) if is_known and cost else None


def as_lines(times: list[Expected]) -> list[str]:
    """Return a line for each hardware."""
    width = max((len(expected.hardware.name) for expected in times), default=0)
    return [
        f"{expected.hardware.name:<{width}}  {_duration(expected.hours):>8}  {_price(expected.dollars):>6}  "
        f"{expected.rate:,.4g} images/s, {expected.hardware.source}"
        for expected in times
    ]


def _duration(hours: float) -> str:
    if hours < 2:
        return f"{60 * hours:.0f} min"
    return f"{hours:.1f} h" if hours < 96 else f"{hours / 24:,.0f} days"


def _price(dollars: float | None) -> str:
    return "" if dollars is None else f"${dollars:,.0f}" if dollars >= 1 else "< $1"
