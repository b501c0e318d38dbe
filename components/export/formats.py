"""A backbone in the formats of other libraries: torchvision, timm, detectron2, ONNX, the Hugging Face hub.

Each writer takes a backbone in eval mode, of a ResNet ``avgpool`` and ``fc`` are ignored; the metadata
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
import timm
import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.export import Dim

from components.core.errors import InputError
from components.core.files import write_text, writing
from components.core.tensor_files import save_stable
from components.export.detectron2 import export_detectron2, require_resnet
from components.export.model_card import model_card
from components.models.backbones import (
    example_images,
    feature_map,
    hold_features,
    pooled_features,
    trunk_state,
)
from components.models.timm_backbones import create, layout_of
from components.params import is_timm

CLASSIFIER = ["fc.weight", "fc.bias"]  # all that torchvision's file lacks
ONNX_OPSET = 18  # the exporter's own; a lower one it would convert to
ONNX_TOLERANCE = 1e-4  # of the largest value, against torch in fp32
HUGGINGFACE_FILES = frozenset(("config.json", "model.safetensors", "README.md"))
CROP_PIXELS, RESIZE_PIXELS = 224, 256  # downstream, appendix A; any size works


def export_torchvision(cnn: nn.Module, metadata: Mapping[str, str], path: Path) -> None:
    """Write a ``.pth`` that torchvision's ResNet loads with ``strict=False``; its ``fc`` stays its own.

    Raises:
        InputError: of a network of timm.
    """
    require_resnet(metadata, "torchvision")
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

    timm names the layers of torchvision's ResNets as torchvision does.
    """
    with writing(path) as temporary:
        model, _ = _timm_network(cnn, metadata["architecture"])
        save_stable(model.state_dict(), dict(metadata), temporary)
        loaded, _ = _timm_network(cnn, metadata["architecture"])
        loaded.load_state_dict(load_file(temporary))
        _hold_timm(path, cnn, loaded.eval(), metadata["architecture"])


def export_huggingface(cnn: nn.Module, metadata: Mapping[str, str], path: Path) -> None:
    """Write a folder for ``timm.create_model("local-dir:PATH", pretrained=True)``, or the hub itself.

    It has config.json, model.safetensors, and README.md: the model card, with what the metadata and
    the run's own files in outputs/ say about this backbone.
    """
    architecture = metadata["architecture"]
    preprocessing: dict[
        str, Any
    ] = {  # what timm's transforms must do to an image, and its names of the network's ends
        "crop_pct": CROP_PIXELS / RESIZE_PIXELS,
        "interpolation": "bilinear",
        "mean": timm.data.IMAGENET_DEFAULT_MEAN,
        "std": timm.data.IMAGENET_DEFAULT_STD,
        "num_classes": 0,
    }
    if is_timm(architecture):
        model, options = _timm_network(cnn, architecture, pretrained_cfg_overlay=preprocessing)
    else:
        ends: dict[str, Any] = {"input_size": (3, CROP_PIXELS, CROP_PIXELS), "pool_size": (7, 7)}
        ends |= {"first_conv": "conv1", "classifier": "fc"}
        model, options = _timm_network(cnn, architecture, pretrained_cfg=preprocessing | ends)
    with writing(path) as temporary:
        temporary.mkdir()
        arguments = {"model_args": options} if options else {}
        timm.models.save_for_hf(model, str(temporary), safe_serialization=True, **arguments)
        shutil.copymode(temporary / "config.json", temporary / "model.safetensors")  # timm leaves it private
        pooling = layout_of(architecture).pooling() if is_timm(architecture) else ""
        write_text(temporary / "README.md", model_card(metadata, path.name, pooling))
        loaded = timm.create_model(f"local-dir:{temporary.resolve()}", pretrained=True).eval()
        _hold_timm(path, cnn, loaded, architecture)


def _timm_network(cnn: nn.Module, architecture: str, **more: Any) -> tuple[nn.Module, dict[str, Any]]:
    """Build timm's network with the weights of ``cnn``; what it has behind them has timm's first ones.

    Returns:
        the network and its other arguments in ``timm.create_model``.
    """
    if not is_timm(architecture):
        model = timm.create_model(architecture, num_classes=0, **more)
        model.load_state_dict(trunk_state(cnn))
        return model, {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, options = create(architecture, **more)
    model.load_state_dict({**model.state_dict(), **trunk_state(cnn)})
    return model, options


def _hold_timm(path: Path, cnn: nn.Module, loaded: Any, architecture: str) -> None:
    images = example_images()
    with torch.inference_mode():
        if is_timm(architecture):
            hold_features(path, cnn, layout_of(architecture).pooled(loaded.forward_features(images)))
        else:
            hold_features(path, cnn, loaded(images))


def export_onnx(cnn: nn.Module, metadata: Mapping[str, str], path: Path) -> None:
    """Write an ``.onnx`` of any batch, height and width: ``images`` in, ``features``, ``feature_map`` out.

    Weights and metadata are in the graph. onnx checks it, and onnxruntime runs it at two sizes.
    """
    onnx, runtime = (_library(name) for name in ("onnx", "onnxruntime"))
    _library("onnxscript")
    module = FeaturesAndMap(cnn).eval()
    with writing(path) as temporary:
        try:
            _write_onnx(module, temporary)
        except torch.onnx.OnnxExporterError as error:
            raise InputError(
                f"--format onnx: torch {torch.__version__} cannot write {metadata['architecture']} as ONNX; "
                "choose timm, huggingface or mlflow"
            ) from error
        graph = onnx.load(temporary)
        onnx.helper.set_model_props(graph, dict(metadata))
        onnx.checker.check_model(graph, full_check=True)
        onnx.save(graph, temporary)
        session = runtime.InferenceSession(temporary, providers=["CPUExecutionProvider"])
        for images in (example_images(), example_images()[:1, :, :40, :]):
            _hold_onnx(path, module, session.run(None, {"images": images.numpy()}), images)


class FeaturesAndMap(nn.Module):
    """A backbone with both of its uses as outputs.

    Shape:
        images ``(batch, 3, height, width)`` -> features ``(batch, feature_size)``,
        feature map ``(batch, feature_size, height / 32, width / 32)``, or another stride of timm's
    """

    def __init__(self, cnn: nn.Module) -> None:
        super().__init__()
        self.cnn = cnn

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features and feature map; see the class for shapes."""
        found = feature_map(self.cnn, images)
        return found.mean(dim=(2, 3)), found


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


def _library(name: str) -> Any:
    """Import a library of the extra ``export``.

    Raises:
        InputError: if it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"the onnx format needs {name} ({error}); install it with: "
            "pip install -c constraints.txt -e '.[export]'"
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
