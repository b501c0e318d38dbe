"""Linear segmentation of VOC2012: a 1x1 convolution on the frozen feature map tells the class of each pixel.

Images are seen whole, as squares of ``probes.segmentation_size`` pixels. Features are normalised by batch,
without affine parameters, so that one learning rate fits every backbone. Outputs are enlarged bilinearly: to
a quarter of the square's side in training, to the mask's own size for the figure, the mean over classes of
intersection over union of all pixels but the border, in percent.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from components import params
from components.benchmarks.probes.feature_maps import extract_maps, train_head
from components.benchmarks.probes.result import Probed, measured
from components.benchmarks.shared.features import Features
from components.benchmarks.shared.intervals import Array, Counts, Statistic
from components.benchmarks.shared.resampled_precision import known_mean
from components.core import machine
from components.data.image import Pixels, resize
from components.data.transforms import normalise
from components.sources.readers.voc_masks import BORDER, MaskedImages, read_mask

FIGURE = "segmentation.voc2012_mIoU"
TRAINING_SHARE = 4  # the square's side in sides of a mask to train on
LEARNING_RATE = 1e-2


class Square:
    """The whole image as a square of ``size`` pixels, normalised."""

    def __init__(self, size: int, antialias: bool) -> None:
        self.size = size
        self.antialias = antialias

    def __call__(self, image: Pixels) -> Tensor:
        """Return a tensor ``(3, size, size)``."""
        return normalise(resize(image, self.size, self.size, self.antialias))


def segmented(
    backbone: nn.Module, train: MaskedImages, val: MaskedImages, probes: params.Probes, voc07: params.Voc07
) -> Probed:
    """Train on one split and measure on the other; images are read as those of VOC07 are."""
    transform = Square(probes.segmentation_size, voc07.antialias)
    known, asked = (  # masks fit the pixels as stored, whatever metadata say
        extract_maps(backbone, of.image_paths, transform, voc07.batch_size, f"VOC2012 {name}", upright=False)
        for name, of in (("train", train), ("val", val))
    )
    masks = [read_mask(path) for path in val.mask_paths]
    targets = small_masks(train.mask_paths, max(1, probes.segmentation_size // TRAINING_SHARE))
    num_classes = 1 + max(int(mask[mask != BORDER].max(initial=0)) for mask in (targets, *masks))
    build = functools.partial(_head, known.shape[1], num_classes)
    head = train_head(
        build,
        known,
        torch.from_numpy(targets),
        pixel_loss,
        probes.segmentation_epochs,
        LEARNING_RATE,
        "linear segmentation",
    )
    found = np.stack(
        [
            areas(predicted(head, own, mask.shape), mask, num_classes)
            for own, mask in zip(asked, masks, strict=True)
        ]
    )
    blank = np.stack([areas(np.zeros_like(mask), mask, num_classes) for mask in masks])
    chance = mean_iou(blank)(np.ones((len(masks), 1), np.float32))
    return measured(
        [f"voc2012/{path.stem}" for path in val.image_paths],
        mean_iou(found),
        {name: float(values[0]) for name, values in chance.items()},
        {"segmentation.intersections": found[:, 0], "segmentation.unions": found[:, 1]},
    )


def _head(feature_size: int, num_classes: int) -> nn.Module:
    return nn.Sequential(nn.BatchNorm2d(feature_size, affine=False), nn.Conv2d(feature_size, num_classes, 1))


def small_masks(paths: Sequence[Path], side: int) -> NDArray[np.uint8]:
    """Return masks ``(num_images, side, side)`` of the nearest pixels."""
    sizes = (side, side)
    nearest = (Image.fromarray(read_mask(path)).resize(sizes, Image.Resampling.NEAREST) for path in paths)
    return np.stack([np.asarray(mask, dtype=np.uint8) for mask in nearest])


def pixel_loss(outputs: Tensor, masks: Tensor) -> Tensor:
    """Return the mean cross entropy of pixels that are no border; 0 without any.

    Shape:
        outputs ``(batch, num_classes, rows, columns)``, masks ``(batch, height, width)`` -> scalar
    """
    logits = F.interpolate(outputs, masks.shape[-2:], mode="bilinear")
    losses = F.cross_entropy(logits, masks.long(), ignore_index=BORDER, reduction="sum")
    return losses / (masks != BORDER).sum().clamp_min(1)


@torch.inference_mode()
def predicted(head: nn.Module, features: Features, size: tuple[int, ...]) -> NDArray[np.int64]:
    """Return the class of each pixel of one image, ``size``, from its map."""
    outputs = head(torch.from_numpy(features)[None].to(machine.device_name()))
    return F.interpolate(outputs, size, mode="bilinear").argmax(dim=1)[0].cpu().numpy()


def areas(classes: NDArray[np.integer[Any]], mask: NDArray[np.uint8], num_classes: int) -> NDArray[np.int64]:
    """Return by class the pixels of its intersection and union, ``(2, num_classes)``, without the border."""
    told, true = classes[mask != BORDER], mask[mask != BORDER]
    both, ours, theirs = (
        np.bincount(pixels, minlength=num_classes) for pixels in (true[told == true], told, true)
    )
    return np.stack([both, ours + theirs - both])


def mean_iou(found: NDArray[np.int64]) -> Statistic:
    """Return the statistic of the mean over those classes that some image has or is said to have.

    Args:
        found: ``(num_images, 2, num_classes)``, as `areas` gives them.
    """
    by_class = found.transpose(1, 2, 0).astype(np.float64)  # (2, num_classes, num_images)

    def statistic(counts: Counts) -> dict[str, Array]:
        both, either = by_class @ counts
        with np.errstate(invalid="ignore"):
            return {FIGURE: 100.0 * known_mean(np.where(either > 0, both / either, np.nan))}

    return statistic
