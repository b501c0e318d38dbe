"""A torchvision state dict: what ``torch.load(path, weights_only=True)`` reads."""

from collections.abc import Mapping
from pathlib import Path

import torch
import torchvision
from torch import nn

from components.core.files import writing
from components.export.backbone import example_images, hold_features, pooled_features, trunk_state

CLASSIFIER = ["fc.weight", "fc.bias"]  # all that the file lacks


def export_torchvision(cnn: nn.Module, metadata: Mapping[str, str], path: Path) -> None:
    """Write a ``.pth`` that torchvision's ResNet loads with ``strict=False``; its ``fc`` stays its own.

    Args:
        cnn: a torchvision ResNet in eval mode; ``avgpool`` and ``fc`` are ignored.
        metadata: what `load_backbone` gives; ``architecture`` is used.
        path: where to write, atomically.

    Raises:
        RuntimeError: if torchvision does not get the same features from the file.
    """
    with writing(path) as temporary:
        torch.save(trunk_state(cnn), temporary)
        loaded = torchvision.models.get_model(metadata["architecture"], weights=None).eval()
        report = loaded.load_state_dict(torch.load(temporary, weights_only=True), strict=False)
        if report.unexpected_keys or report.missing_keys != CLASSIFIER:
            raise RuntimeError(f"{path}: not torchvision's names: {report}")
        with torch.inference_mode():
            hold_features(path, cnn, pooled_features(loaded, example_images()))
