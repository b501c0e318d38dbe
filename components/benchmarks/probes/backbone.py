"""The probes of a frozen backbone: nearest neighbours on VOC2007 and ImageNet, few shots on ImageNet.

All take the features of centre crops, those of the linear benchmarks: what these have extracted before is
kept (components.benchmarks.shared.features). The mAP of VOC2007 is that of VOC07.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import nn

from components import params
from components.benchmarks.probes.few_shot import SHOTS, few_shots
from components.benchmarks.probes.result import Probed, means, ranked_classes
from components.benchmarks.shared.features import Features, cached_features
from components.benchmarks.shared.neighbours import NEIGHBOURS, votes
from components.benchmarks.shared.per_image import PerImage
from components.core import machine
from components.data.transforms import EvalTransform
from components.sources.readers.types import ClassifiedImages
from components.sources.readers.voc import VocSplit

FIGURES = (
    *(f"knn.{figure}_{k}" for figure in ("voc07_mAP", "imagenet_top1") for k in NEIGHBOURS),
    *(f"few_shot.imagenet_top1_{count}" for count in SHOTS),
)


def voc_neighbours(backbone: nn.Module, trainval: VocSplit, test: VocSplit, settings: params.Voc07) -> Probed:
    """Rank test images by the votes of trainval images; a class only in difficult objects has no vote."""
    known, asked = (
        _features(backbone, split.image_paths, settings, f"VOC2007 {name}")
        for name, split in (("trainval", trainval), ("test", test))
    )
    found = votes(known, trainval.labels > 0, asked, machine.device_name())
    images = [f"voc2007/{path.stem}" for path in test.image_paths]
    return ranked_classes(images, test.labels, {f"knn.voc07_mAP_{k}": shares for k, shares in found.items()})


def classified(
    backbone: nn.Module,
    train: ClassifiedImages,
    val: ClassifiedImages,
    settings: params.ImagenetLinear,
    which: Sequence[str],
) -> list[Probed]:
    """Classify validation images by nearest neighbours and from few shots, those of ``which``."""
    known, asked = (
        _features(backbone, split.image_paths, settings, f"ImageNet {name}", split.upright)
        for name, split in (("train", train), ("val", val))
    )
    images = ["/".join(path.parts[-2:]) for path in val.image_paths]
    num_classes, device, probed = len(train.classes), machine.device_name(), []
    if "knn" in which:
        shown = np.zeros((len(train.labels), num_classes), dtype=bool)
        shown[np.arange(len(train.labels)), train.labels] = True
        found = votes(known, shown, asked, device)
        hits = {
            f"knn.imagenet_top1_{k}": 100.0 * (shares.argmax(axis=1) == val.labels)
            for k, shares in found.items()
        }
        probed.append(means(images, hits, dict.fromkeys(hits, 100.0 / num_classes)))
    if "few_shot" in which:
        shots = {
            f"few_shot.imagenet_top1_{count}": found
            for count, found in few_shots(known, train.labels, asked, val.labels, device).items()
        }
        by_image = PerImage(
            images,
            {name: found.accuracy for name, found in shots.items()},
            {name: found.resampled() for name, found in shots.items()},
            {name: found.hits for name, found in shots.items()},
        )
        probed.append(Probed(by_image, dict.fromkeys(shots, 100.0 / num_classes)))
    return probed


def _features(
    backbone: nn.Module,
    image_paths: Sequence[Path],
    settings: params.Voc07 | params.ImagenetLinear,
    description: str,
    upright: bool = True,
) -> Features:
    return cached_features(
        backbone,
        image_paths,
        EvalTransform(settings.image_size, settings.crop_size, settings.antialias),
        batch_size=settings.batch_size,
        num_workers=machine.num_cpus(),
        device=machine.device_name(),
        description=f"{description} features",
        upright=upright,
    )
