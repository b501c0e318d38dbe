"""An ONNX graph of the backbone, of any batch, height and width."""

import contextlib
import io
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim

from components.core.files import writing
from components.export.backbone import TRUNK, example_images
from components.export.extras import library

OPSET = 18  # the exporter's own; a lower one it would convert to
TOLERANCE = 1e-4  # of the largest value, against torch in fp32


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
        """Features and feature map; see the class for shapes."""
        feature_map = self.trunk(images)
        return feature_map.mean(dim=(2, 3)), feature_map


def export_onnx(cnn: nn.Module, metadata: Mapping[str, str], path: Path) -> None:
    """Write an ``.onnx`` with the weights in it: input ``images``, outputs ``features``, ``feature_map``.

    Before the file takes its place, onnx checks it and onnxruntime runs it at two sizes. Arguments are
    those of `export_torchvision`; the metadata go into the graph.

    Raises:
        InputError: if onnx, onnxscript or onnxruntime is not installed.
        RuntimeError: if onnxruntime's outputs are not torch's.
    """
    onnx, runtime = (library(name, "the onnx format") for name in ("onnx", "onnxruntime"))
    library("onnxscript", "the onnx format")
    module = FeaturesAndMap(cnn).eval()
    with writing(path) as temporary:
        _write(module, temporary)
        graph = onnx.load(temporary)
        onnx.helper.set_model_props(graph, dict(metadata))
        onnx.checker.check_model(graph, full_check=True)
        onnx.save(graph, temporary)
        session = runtime.InferenceSession(temporary, providers=["CPUExecutionProvider"])
        for images in (example_images(), example_images()[:1, :, :40, :]):
            _hold(path, module, session.run(None, {"images": images.numpy()}), images)


def _write(module: nn.Module, path: Path) -> None:
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # of the exporter, about its own future
        torch.onnx.export(
            module,
            (example_images(),),
            path,
            dynamo=True,
            opset_version=OPSET,
            input_names=["images"],
            output_names=["features", "feature_map"],
            dynamic_shapes=({0: Dim("batch"), 2: Dim("height"), 3: Dim("width")},),
            external_data=False,
            verbose=False,
        )


def _hold(path: Path, module: nn.Module, found: list[np.ndarray], images: Tensor) -> None:
    with torch.inference_mode():
        expected = module(images)
    for ours, theirs in zip(expected, found, strict=True):
        difference = float(np.abs(ours.numpy() - theirs).max())
        if difference > TOLERANCE * max(1.0, float(ours.abs().max())):
            raise RuntimeError(f"{path}: onnxruntime differs from torch by {difference:.3g}")
