"""The formats a backbone can be given to other people in."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from components.export.detectron2 import export_detectron2
from components.export.huggingface import FILES, export_huggingface
from components.export.onnx import export_onnx
from components.export.timm import export_timm
from components.export.torchvision import export_torchvision


@dataclass(frozen=True, slots=True)
class Format:
    """How to write a format, and how its files are called after the backbone's name.

    ``files`` are those of a format that is a folder.
    """

    export: Callable[[nn.Module, Mapping[str, str], Path], None]
    ending: str
    files: frozenset[str] = frozenset()


FORMATS = {
    "torchvision": Format(export_torchvision, "_torchvision.pth"),
    "timm": Format(export_timm, "_timm.safetensors"),
    "detectron2": Format(export_detectron2, "_detectron2.pth"),
    "onnx": Format(export_onnx, ".onnx"),
    "huggingface": Format(export_huggingface, "_huggingface", FILES),
}
