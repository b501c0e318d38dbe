"""A file for timm, which names the layers of these ResNets as torchvision does."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from components.core.files import writing
from components.core.tensor_files import save_stable
from components.export.backbone import example_images, hold_features, trunk_state
from components.export.extras import library


def export_timm(cnn: nn.Module, metadata: Mapping[str, str], path: Path) -> None:
    """Write a ``.safetensors`` for ``timm.create_model(architecture, num_classes=0, checkpoint_path=path)``.

    Arguments are those of `export_torchvision`.

    Raises:
        InputError: if timm is not installed.
        RuntimeError: if timm does not get the same features from the file.
    """
    timm = library("timm", "the timm format")
    with writing(path) as temporary:
        save_stable(trunk_state(cnn), dict(metadata), temporary)
        loaded = timm.create_model(metadata["architecture"], num_classes=0).eval()
        loaded.load_state_dict(load_file(temporary))
        with torch.inference_mode():
            hold_features(path, cnn, loaded(example_images()))
