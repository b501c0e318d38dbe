"""A backbone in the formats of other libraries: torchvision, timm, detectron2, ONNX, the Hugging Face hub.

Each writer takes a torchvision ResNet in eval mode, whose ``avgpool`` and ``fc`` are ignored; the metadata
as `load_backbone` gives them; and where to write, atomically. Before the file takes its place it is loaded
again as its readers load it, and must give the same features: else RuntimeError.
"""

import contextlib
import importlib
import io
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.export import Dim

from components.core.errors import InputError
from components.core.files import write_text, writing
from components.core.tensor_files import save_stable
from components.export.detectron2 import export_detectron2
from components.export.model_card import model_card
from components.models.backbones import TRUNK, example_images, hold_features, pooled_features, trunk_state

CLASSIFIER = ["fc.weight", "fc.bias"]  # all that torchvision's file lacks
ONNX_OPSET = 18  # the exporter's own; a lower one it would convert to
ONNX_TOLERANCE = 1e-4  # of the largest value, against torch in fp32
HUGGINGFACE_FILES = frozenset(("config.json", "model.safetensors", "README.md"))
CROP_PIXELS, RESIZE_PIXELS = 224, 256  # downstream, appendix A; any size works


def export_torchvision(cnn: nn.Module, metadata: Mapping[str, str], path: Path) -> None:
    """Write a ``.pth`` that torchvision's ResNet loads with ``strict=False``; its ``fc`` stays its own."""
    with writing(path) as temporary:
        torch.save(trunk_state(cnn), temporary)
        loaded = torchvision.models.get_model(metadata["architecture"], weights=None).eval()
        report = loaded.load_state_dict(torch.load(temporary, weights_only=True), strict=False)
        if report.unexpected_keys or report.missing_keys != CLASSIFIER:
            raise RuntimeError(f"{path}: not torchvision's names: {report}")
        with torch.inference_mode():
            hold_features(path, cnn, pooled_features(loaded, example_images()))


def export_timm(cnn: nn.Module, metadata: Mapping[str, str], path: Path) -> None:
    """Write a ``.safetensors`` for ``timm.create_model(architecture, num_classes=0, checkpoint_path=path)``.

    timm names the layers of these ResNets as torchvision does.
    """
    timm = _library("timm", "the timm format")
    with writing(path) as temporary:
        save_stable(trunk_state(cnn), dict(metadata), temporary)
        loaded = timm.create_model(metadata["architecture"], num_classes=0).eval()
        loaded.load_state_dict(load_file(temporary))
        with torch.inference_mode():
            hold_features(path, cnn, loaded(example_images()))


def export_huggingface(cnn: nn.Module, metadata: Mapping[str, str], path: Path) -> None:
    """Write a folder for ``timm.create_model("local-dir:PATH", pretrained=True)``, or the hub itself.

    It has config.json, model.safetensors, and README.md: the model card, which tells what the metadata and
    the run's own files in outputs/ say about this backbone.
    """
    timm = _library("timm", "the huggingface format")
    preprocessing = {  # what timm's transforms must do to an image, and its names of the network's ends
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
    model = timm.create_model(metadata["architecture"], num_classes=0, pretrained_cfg=preprocessing)
    model.load_state_dict(trunk_state(cnn))
    with writing(path) as temporary:
        temporary.mkdir()
        timm.models.save_for_hf(model, str(temporary), safe_serialization=True)
        shutil.copymode(temporary / "config.json", temporary / "model.safetensors")  # timm leaves it private
        write_text(temporary / "README.md", model_card(metadata, path.name))
        loaded = timm.create_model(f"local-dir:{temporary.resolve()}", pretrained=True).eval()
        with torch.inference_mode():
            hold_features(path, cnn, loaded(example_images()))


def export_onnx(cnn: nn.Module, metadata: Mapping[str, str], path: Path) -> None:
    """Write an ``.onnx`` of any batch, height and width: ``images`` in, ``features``, ``feature_map`` out.

    Weights and metadata are in the graph. onnx checks it, and onnxruntime runs it at two sizes.
    """
    onnx, runtime = (_library(name, "the onnx format") for name in ("onnx", "onnxruntime"))
    _library("onnxscript", "the onnx format")
    module = FeaturesAndMap(cnn).eval()
    with writing(path) as temporary:
        _write_onnx(module, temporary)
        graph = onnx.load(temporary)
        onnx.helper.set_model_props(graph, dict(metadata))
        onnx.checker.check_model(graph, full_check=True)
        onnx.save(graph, temporary)
        session = runtime.InferenceSession(temporary, providers=["CPUExecutionProvider"])
        for images in (example_images(), example_images()[:1, :, :40, :]):
            _hold_onnx(path, module, session.run(None, {"images": images.numpy()}), images)


class FeaturesAndMap(nn.Module):
    """A ResNet with both of its uses as outputs.

    Shape:
        images ``(batch, 3, height, width)`` -> features ``(batch, feature_size)``,
        feature map ``(batch, feature_size, height / 32, width / 32)``
    """

    def __init__(self, cnn: nn.Module) -> None:
        super().__init__()
        self.trunk = nn.Sequential(*(cnn.get_submodule(name) for name in TRUNK))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features and feature map; see the class for shapes."""
        feature_map = self.trunk(images)
        return feature_map.mean(dim=(2, 3)), feature_map


def _write_onnx(module: nn.Module, path: Path) -> None:
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # of the exporter, about its own future
        torch.onnx.export(
            module,
            (example_images(),),
            path,
            dynamo=True,
            opset_version=ONNX_OPSET,
            input_names=["images"],
            output_names=["features", "feature_map"],
            dynamic_shapes=({0: Dim("batch"), 2: Dim("height"), 3: Dim("width")},),
            external_data=False,
            verbose=False,
        )


def _hold_onnx(path: Path, module: nn.Module, found: list[np.ndarray], images: Tensor) -> None:
    with torch.inference_mode():
        expected = module(images)
    for ours, theirs in zip(expected, found, strict=True):
        difference = float(np.abs(ours.numpy() - theirs).max())
        if difference > ONNX_TOLERANCE * max(1.0, float(ours.abs().max())):
            raise RuntimeError(f"{path}: onnxruntime differs from torch by {difference:.3g}")


def _library(name: str, use: str) -> Any:
    """Import a library of the extra ``export``.

    Raises:
        InputError: if it is not installed; ``use`` says what for.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"{use} needs {name} ({error}); install it with: pip install -c constraints.txt -e '.[export]'"
        ) from error


@dataclass(frozen=True, slots=True)
class Format:
    """How to write a format, and the ending of its files after the backbone's name.

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
    "huggingface": Format(export_huggingface, "_huggingface", HUGGINGFACE_FILES),
}
