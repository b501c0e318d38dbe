"""Features of a frozen backbone for whole datasets of images."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from components.data.batch import collate_images
from components.data.dataset import ImageDataset
from components.data.loader import in_order_loader

Features = NDArray[np.float32]


def extract_features(
    backbone: nn.Module,
    dataset: ImageDataset,
    *,
    batch_size: int,
    num_workers: int,
    device: torch.device | str,
    description: str = "features",
) -> Features:
    """Features ``(num_images, feature_size)`` in the dataset's order, float32, with a progress bar.

    The backbone maps images ``(batch, 3, height, width)`` to ``(batch, feature_size)``, as the one of
    `components.export.backbone.load_backbone`. It is moved to ``device`` and put in eval mode, so
    that BatchNorm uses its running statistics and no image changes another one's features.

    Raises:
        InputError: if an image cannot be read.
    """
    backbone = backbone.to(device).eval()
    on_gpu = torch.device(device).type == "cuda"
    loader = in_order_loader(
        dataset, collate_images, batch_size=batch_size, num_workers=num_workers, pin_memory=on_gpu
    )
    parts: list[Features] = []
    with (
        torch.inference_mode(),
        tqdm(total=len(dataset), desc=description, unit="image", mininterval=1.0) as bar,
    ):
        for batch in loader:
            features = backbone(batch["image"].to(device, non_blocking=True))
            parts.append(features.float().cpu().numpy())
            bar.update(len(features))
    return np.concatenate(parts)


def l2_normalised(features: Features) -> Features:
    """Rows ``(num_images, feature_size)`` scaled to unit length; a row of zeros stays as it is."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    normalised: Features = np.divide(features, np.where(lengths > 0, lengths, 1), dtype=np.float32)
    return normalised
