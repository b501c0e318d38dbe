"""Feature maps of a frozen backbone, and small heads that are trained on them.

Maps are computed once, from images without augmentation, and stay in memory as float32: 2 GB for VOC2007's
trainval images at 224 pixels on a ResNet-50. On disk they would push all other features out of the cache.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from components.benchmarks.shared.features import Features, extract_features
from components.core import machine
from components.core.errors import InputError
from components.data.dataset import ImageDataset, Transform
from components.models.backbones import feature_map

SEED = 0  # of first weights and of the order of images
BATCH = 64  # images
WEIGHT_DECAY = 0.01

Loss = Callable[[Tensor, Tensor], Tensor]


class FeatureMaps(nn.Module):
    """A backbone that ends before its pooling.

    Shape:
        images ``(batch, 3, height, width)`` -> ``(batch, feature_size, height / 32, width / 32)``
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> Tensor:
        """Return the maps; see the class for shapes."""
        return feature_map(self.backbone, images)


def extract_maps(
    backbone: nn.Module,
    image_paths: Sequence[Path],
    transform: Transform,
    batch_size: int,
    description: str,
    upright: bool = True,
) -> Features:
    """Return maps ``(num_images, feature_size, rows, columns)`` of images that all get the same size.

    Raises:
        InputError: if an image cannot be read.
    """
    return extract_features(
        FeatureMaps(backbone),
        ImageDataset(image_paths, transform, upright),
        batch_size=batch_size,
        num_workers=machine.num_cpus(),
        device=machine.device_name(),
        description=f"{description} feature maps",
    )


def train_head(
    build: Callable[[], nn.Module],
    maps: Features,
    targets: Tensor,
    loss_of: Loss,
    epochs: int,
    learning_rate: float,
    description: str,
) -> nn.Module:
    """Return a head trained by AdamW, in eval mode; the same each time, on the same device.

    Args:
        build: makes the head, with random first weights.
        maps: ``(num_images, ...)``, its inputs.
        targets: ``(num_images, ...)``, what ``loss_of`` compares its outputs with.
        loss_of: of outputs and targets of some images.
        epochs: how often each image is seen.
        learning_rate: at the start; it falls to 0 along a cosine.
        description: for the progress bar.

    Raises:
        InputError: with less than two images, which batch normalisation needs, or a loss that is not finite.
    """
    if len(maps) < 2:
        raise InputError(f"{description}: {len(maps)} image to train on; expected two or more")
    device = machine.device_name()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        head = build().to(device).train()
    optimizer = torch.optim.AdamW(head.parameters(), lr=learning_rate, weight_decay=WEIGHT_DECAY)
    batches = math.ceil(len(maps) / BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * batches)
    rng = np.random.default_rng(SEED)
    for _ in tqdm(range(epochs), desc=description, unit="epoch", mininterval=1.0):
        for chosen in np.array_split(
            rng.permutation(len(maps)), batches
        ):  # of nearly the same size: none of 1
            shown, wanted = torch.from_numpy(maps[chosen]).to(device), targets[chosen].to(device)
            loss = loss_of(head(shown), wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        if not loss.isfinite():
            raise InputError(
                f"{description}: the loss is {loss.item()}; look whether the backbone has diverged"
            )
    return head.eval()
