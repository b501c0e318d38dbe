"""What a torchvision detector finds in a list of images."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from pycocotools import mask as run_lengths
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from components.benchmarks.detection.data import DetectionImage
from components.benchmarks.detection.detections import Detections
from components.benchmarks.detection.samples import TestImages

MASK_THRESHOLD = 0.5


@torch.inference_mode()
def detect(
    model: nn.Module,
    images: Sequence[DetectionImage],
    *,
    batch_size: int,
    device: torch.device,
    num_workers: int,
    progress: bool = False,
) -> list[Detections]:
    """Detections of every image, in order; the model is left in eval mode."""
    model.to(device).eval()
    loader: DataLoader[Any] = DataLoader(
        TestImages(images),
        batch_size=batch_size,
        collate_fn=list,
        num_workers=num_workers,
        generator=torch.Generator().manual_seed(0),
    )
    found = []
    for batch in tqdm(loader, "detect", unit=" batches", mininterval=10.0, disable=not progress):
        outputs = model([image.to(device) for image, _ in batch])
        found += [
            as_detections(output, images[index]) for output, (_, index) in zip(outputs, batch, strict=True)
        ]
    return found


def as_detections(output: dict[str, Tensor], image: DetectionImage) -> Detections:
    """Torchvision's output of one image; labels from 1 become labels from 0, masks become run lengths."""
    masks = None
    if "masks" in output:
        solid = (output["masks"][:, 0] > MASK_THRESHOLD).cpu().numpy().astype(np.uint8)
        masks = run_lengths.encode(np.asfortranarray(solid.transpose(1, 2, 0))) if len(solid) else []
    return Detections(
        image.image_id,
        output["boxes"].cpu().numpy().astype(np.float32),
        output["scores"].cpu().numpy().astype(np.float32),
        output["labels"].cpu().numpy().astype(np.int64) - 1,
        masks,
    )
