"""A folder as the Hugging Face hub has it: config.json, model.safetensors, and README.md, the model card."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from components.core.files import write_text, writing
from components.export.backbone import example_images, hold_features, trunk_state
from components.export.extras import library
from components.export.model_card import model_card

FILES = frozenset(("config.json", "model.safetensors", "README.md"))
CROP_PIXELS, RESIZE_PIXELS = 224, 256  # downstream, appendix A; any size works


def export_huggingface(cnn: nn.Module, metadata: Mapping[str, str], path: Path) -> None:
    """Write a folder for ``timm.create_model("local-dir:PATH", pretrained=True)``, or the hub itself.

    Arguments are those of `export_torchvision`; the card tells what the metadata and the run's own files
    in outputs/ say about this backbone.

    Raises:
        InputError: if timm is not installed.
        RuntimeError: if timm does not get the same features from the folder.
    """
    timm = library("timm", "the huggingface format")
    model = timm.create_model(metadata["architecture"], num_classes=0, pretrained_cfg=_preprocessing(timm))
    model.load_state_dict(trunk_state(cnn))
    with writing(path) as temporary:
        temporary.mkdir()
        timm.models.save_for_hf(model, str(temporary), safe_serialization=True)
        shutil.copymode(temporary / "config.json", temporary / "model.safetensors")  # timm leaves it private
        write_text(temporary / "README.md", model_card(metadata, path.name))
        loaded = timm.create_model(f"local-dir:{temporary.resolve()}", pretrained=True).eval()
        with torch.inference_mode():
            hold_features(path, cnn, loaded(example_images()))


def _preprocessing(timm: Any) -> dict[str, Any]:
    """What timm's transforms must do to an image, and how timm names the ends of the network."""
    return {
        "input_size": (3, CROP_PIXELS, CROP_PIXELS),
        "crop_pct": CROP_PIXELS / RESIZE_PIXELS,
        "interpolation": "bilinear",
        "mean": timm.data.IMAGENET_DEFAULT_MEAN,
        "std": timm.data.IMAGENET_DEFAULT_STD,
        "num_classes": 0,
        "pool_size": (7, 7),
        "first_conv": "conv1",
        "classifier": "fc",
    }
