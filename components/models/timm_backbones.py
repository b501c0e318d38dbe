"""Backbones of timm: any of its networks whose features are a map or tokens of a grid, with random weights.

``timm/convnext_tiny`` is timm's ``convnext_tiny`` up to its last feature map, ``timm/vit_small_patch16_224``
up to its last tokens, of which those of no place (class, registers) are left out. What timm has behind them,
a pooling with layers of its own, is not part of the backbone. Weights are never downloaded.
"""

import contextlib
import difflib
import functools
import itertools
import math
from dataclasses import dataclass, replace
from typing import Any

import timm
import torch
from torch import Tensor, nn

from components.core.errors import InputError
from components.params import TIMM

STRIDES = (4, 8, 16, 32)  # pixels of the image per position, of the maps that a feature pyramid is built on
_NEAREST = 3
_PROBED = ((64, 64), (96, 160), (72, 104))  # heights and widths of images; the last is of no whole patches
# Where a network has a choice, images of any size, filled up to whole patches.
_ANY_SIZE: tuple[dict[str, Any], ...] = (
    {"dynamic_img_size": True, "dynamic_img_pad": True},
    {"dynamic_img_size": True},
    {},
)


@dataclass(frozen=True, slots=True)
class Layout:
    """What a network's ``forward_features`` gives.

    Attributes:
        feature_size: channels.
        stride: pixels of the image per position.
        order: ``NCHW``, ``NHWC`` or, of tokens, ``NLC``.
        prefix_tokens: first tokens that stand for no place.
        rounds_up: whether what is left at an image's edges has tokens too.
        unused: children that only lie behind these features.
    """

    feature_size: int
    stride: int
    order: str
    prefix_tokens: int = 0
    rounds_up: bool = True
    unused: tuple[str, ...] = ()

    def feature_map(self, features: Tensor, height: int, width: int) -> Tensor:
        """Return ``(batch, feature_size, rows, columns)`` from the features of images ``height x width``."""
        if self.order == "NHWC":
            return features.permute(0, 3, 1, 2)
        if self.order == "NLC":
            return features[:, self.prefix_tokens :].transpose(1, 2).unflatten(2, self.grid(height, width))
        return features

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Return rows and columns of the tokens of an image."""
        extra = self.stride - 1 if self.rounds_up else 0
        return (height + extra) // self.stride, (width + extra) // self.stride

    def pooled(self, features: Tensor) -> Tensor:
        """Return the mean over all places, ``(batch, feature_size)``."""
        if self.order == "NLC":
            return features[:, self.prefix_tokens :].mean(dim=1)
        return features.mean(dim=(1, 2) if self.order == "NHWC" else (2, 3))

    def pooling(self) -> str:
        """Say in Python what `pooled` does."""
        if self.order == "NLC":
            return f"features[:, {self.prefix_tokens}:].mean(dim=1)"
        return f"features.mean(dim={(1, 2) if self.order == 'NHWC' else (2, 3)})"


class TimmBackbone(nn.Module):
    """A network of timm that ends with its last features.

    Attributes:
        cnn: the network by timm's names; as a function, images ``(batch, 3, height, width)`` to pooled
            features ``(batch, feature_size)``.
        layout: of its features.
        feature_size: channels of the feature map.

    Shape:
        image ``(batch, 3, height, width)``, normalised float -> feature map
        ``(batch, feature_size, height / stride, width / stride)``, rounded up; stride 32, or a ViT's patch
    """

    def __init__(self, name: str, drop_path: float = 0.0) -> None:
        """Build the network called ``name`` with random weights.

        Args:
            name: timm's, behind ``timm/``.
            drop_path: highest rate of stochastic depth (arXiv 1603.09382), that of the last block.

        Raises:
            InputError: for an unknown name, and a network without a feature map for images of any size.
        """
        super().__init__()
        self.layout = layout_of(name)
        self.cnn, _ = create(name, drop_path)
        for child in self.layout.unused:
            setattr(self.cnn, child, nn.Identity())
        self.cnn.forward_head = self.layout.pooled
        self.cnn.layout = self.layout
        self.feature_size = self.layout.feature_size

    def forward(self, image: Tensor) -> Tensor:
        """Return the feature map; see the class for shapes."""
        return timm_feature_map(self.cnn, image)


def timm_feature_map(cnn: Any, images: Tensor) -> Tensor:
    """Return what `TimmBackbone` does of its ``cnn``."""
    features: Tensor = cnn.layout.feature_map(cnn.forward_features(images), *images.shape[2:])
    return features


@functools.cache
def layout_of(name: str) -> Layout:
    """Find out what the network ``timm/...`` gives, without making its weights.

    Raises:
        InputError: as `TimmBackbone`.
    """
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        cnn, _ = create(name)
        try:
            found = [cnn.forward_features(torch.zeros(2, 3, *size)) for size in _PROBED[:2]]
        except (AssertionError, RuntimeError, ValueError) as error:
            raise InputError(
                f"backbone {name!r}: timm's network does not take images of any size"
                + (f" ({str(error).splitlines()[0]})" if str(error) else "")
                + "; choose another"
            ) from error
        with contextlib.suppress(AssertionError, RuntimeError, ValueError):  # it takes whole patches only
            found.append(cnn.forward_features(torch.zeros(2, 3, *_PROBED[2])))
        layout = _layout(cnn, found)
        if layout is None:
            raise InputError(f"backbone {name!r}: its features in timm are no map and no grid of tokens")
        used = torch.autograd.grad(found[0].sum(), list(cnn.parameters()), allow_unused=True)
    names = [name for name, _ in cnn.named_parameters()]
    trained = {name.partition(".")[0] for name, grad in zip(names, used, strict=True) if grad is not None}
    unused = {name.partition(".")[0] for name in names if "." in name} - trained
    return replace(layout, unused=tuple(sorted(unused)))


def require_pyramid(name: str) -> None:
    """Refuse a network that a feature pyramid cannot be built on.

    Raises:
        InputError: if it lacks maps of the strides 4 to 32.
    """
    layout_of(name)
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        cnn, _ = create(name)
    if pyramid_levels(cnn) is None:
        raise InputError(
            f"backbone {name!r} has no feature maps of the strides {', '.join(map(str, STRIDES))}, on which "
            "the detection benchmarks build their feature pyramid; set benchmarks.detection_backbones to []"
        )


def pyramid_levels(cnn: nn.Module) -> list[tuple[int, int]] | None:
    """Return index and channels of the last feature map of each of the STRIDES; None where one is missing."""
    if not hasattr(cnn, "forward_intermediates"):
        return None
    levels = {
        info["reduction"]: (index, info["num_chs"])
        for index, info in enumerate(cnn.feature_info)  # type: ignore[arg-type]
    }
    return [levels[stride] for stride in STRIDES] if levels.keys() >= set(STRIDES) else None


def create(name: str, drop_path: float = 0.0, **more: Any) -> tuple[Any, dict[str, Any]]:
    """Build timm's network without a classifier, with weights from torch's global generator.

    Returns:
        the network, whole as timm has it; and what ``timm.create_model`` needs for images of any size.
    """
    own = name.removeprefix(TIMM)
    if "." in own or not timm.is_model(own):
        raise InputError(_unknown(own))
    rates: list[dict[str, Any]] = [{"drop_path_rate": drop_path}, *([] if drop_path else [{}])]
    for options, rate in itertools.product(_ANY_SIZE, rates):
        try:
            network = timm.create_model(own, pretrained=False, num_classes=0, **options, **rate, **more)
            return network, options
        except TypeError:  # an argument that this network has not
            continue
    raise InputError(f"backbone.drop_path: {drop_path}, but {name} has no stochastic depth; expected 0")


def _unknown(own: str) -> str:
    base, dot, tag = own.partition(".")
    if dot and timm.is_model(base):
        return (
            f"backbone {TIMM + own!r}: {tag!r} names weights, and pretraining starts from random ones; "
            f"name the network alone, {TIMM + base!r}"
        )
    known = timm.list_models()
    nearest = ", ".join(TIMM + match for match in difflib.get_close_matches(own, known, _NEAREST, 0.0))
    return (
        f"backbone {TIMM + own!r} is no network of the installed timm {timm.__version__}; "
        f"the nearest of its {len(known)}: {nearest}"
    )


def _layout(cnn: Any, found: list[Any]) -> Layout | None:
    """Read the shapes of features of images of the sizes _PROBED; None for what is neither map nor tokens."""
    features = found[0]
    if not isinstance(features, Tensor) or features.dim() not in (3, 4):
        return None
    if features.dim() == 4:
        order = str(getattr(cnn, "output_fmt", "NCHW"))
        rows = features.shape[2 if order == "NCHW" else 1]
        return Layout(features.shape[order.index("C")], _PROBED[0][0] // rows, order)
    stride = cnn.feature_info[-1]["reduction"] if getattr(cnn, "feature_info", None) else _PROBED[0][0]
    prefix = getattr(cnn, "num_prefix_tokens", 0)
    for rounds_up in (True, False):
        layout = Layout(features.shape[2], stride, "NLC", prefix, rounds_up)
        counts = [prefix + math.prod(layout.grid(*size)) for size in _PROBED[: len(found)]]
        if counts == [tokens.shape[1] for tokens in found]:
            return layout
    return None
