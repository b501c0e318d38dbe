import json
import re
import shutil
import sys

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image
from torch import nn

from components.core.errors import InputError
from components.export.formats import (
    FORMATS,
    HUGGINGFACE_FILES,
    FeaturesAndMap,
    export_huggingface,
    export_onnx,
    export_timm,
    export_torchvision,
)
from components.models.backbones import build_backbone, pooled_features


def test_torchvision_loads_all_but_its_classifier(resnet18, metadata, tmp_path):
    path = tmp_path / "x.pth"
    export_torchvision(resnet18, metadata, path)
    loaded = torchvision.models.resnet18()
    report = loaded.load_state_dict(torch.load(path, weights_only=True), strict=False)
    assert (report.missing_keys, report.unexpected_keys) == (["fc.weight", "fc.bias"], [])
    loaded.fc = nn.Identity()
    images = torch.randn(2, 3, 96, 64)
    torch.testing.assert_close(loaded.eval()(images), pooled_features(resnet18, images))


def test_a_wrong_architecture_leaves_the_old_file(resnet18, metadata, tmp_path):
    path = tmp_path / "x.pth"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="size mismatch"):
        export_torchvision(resnet18, metadata | {"architecture": "resnet50"}, path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_timm_loads_the_file_as_a_checkpoint(resnet18, metadata, tmp_path):
    path = tmp_path / "x.safetensors"
    export_timm(resnet18, metadata, path)
    loaded = timm.create_model("resnet18", num_classes=0, checkpoint_path=str(path)).eval()
    images = torch.randn(2, 3, 96, 64)
    torch.testing.assert_close(loaded(images), pooled_features(resnet18, images), rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module", params=["timm/test_convnext", "timm/test_vit"])
def timm_backbone(request):
    """A network of timm, what its file says, and what an exported one must give."""
    torch.manual_seed(0)
    backbone = build_backbone(request.param).requires_grad_(False).eval()
    return backbone, {"architecture": request.param, "feature_size": "64", "source": "virtex"}


def test_timm_loads_its_own_networks(timm_backbone, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    backbone, metadata = timm_backbone
    images = torch.randn(2, 3, 160, 160)  # the size of both
    expected, name = backbone.cnn.forward_features(images), metadata["architecture"].removeprefix("timm/")
    export_timm(backbone.cnn, metadata, tmp_path / "x.safetensors")
    loaded = timm.create_model(name, num_classes=0, checkpoint_path="x.safetensors").eval()
    torch.testing.assert_close(loaded.forward_features(images), expected)

    export_huggingface(backbone.cnn, metadata, tmp_path / "x")
    loaded = timm.create_model("local-dir:x", pretrained=True).eval()
    torch.testing.assert_close(loaded.forward_features(images), expected)
    card = (tmp_path / "x" / "README.md").read_text(encoding="utf-8")
    pooling = re.search(r"^features = (features.*?)  #", card, re.M)[1]
    pooled = eval(pooling, {"features": loaded.forward_features(images)})
    torch.testing.assert_close(pooled, backbone.cnn(images))


def test_onnx_of_timms_networks_takes_any_size(timm_backbone, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    backbone, metadata = timm_backbone
    export_onnx(backbone.cnn, metadata, tmp_path / "x.onnx")
    session = runtime.InferenceSession(tmp_path / "x.onnx", providers=["CPUExecutionProvider"])
    images = torch.randn(3, 3, 96, 64)
    _, feature_map = session.run(["features", "feature_map"], {"images": images.numpy()})
    np.testing.assert_allclose(feature_map, backbone(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["torchvision", "detectron2"])
def test_formats_of_resnets_refuse_other_networks(timm_backbone, name, tmp_path):
    backbone, metadata = timm_backbone
    with pytest.raises(
        InputError, match=f"--format {name}: it holds ResNets.*is {metadata['architecture']}; choose"
    ):
        FORMATS[name].export(backbone.cnn, metadata, tmp_path / "x.pth")
    assert not list(tmp_path.iterdir())


def test_without_onnx_it_says_what_to_install(resnet18, metadata, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InputError, match=r"the onnx format needs onnx .*pip install .*\.\[export\]"):
        export_onnx(resnet18, metadata, tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


def test_timm_loads_the_folder_and_prepares_images_as_we_do(resnet18, metadata, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "exports" / "my_model"
    export_huggingface(resnet18, metadata, path)
    assert {file.name for file in path.iterdir()} == HUGGINGFACE_FILES
    assert list(path.parent.iterdir()) == [path]
    assert len({file.stat().st_mode for file in path.iterdir()}) == 1

    model = timm.create_model(f"local-dir:{path}", pretrained=True).eval()
    images = torch.randn(2, 3, 96, 64)
    torch.testing.assert_close(model(images), pooled_features(resnet18, images), rtol=1e-4, atol=1e-5)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    gray = transform(Image.new("RGB", (400, 300), (124, 116, 104)))
    assert gray.shape == (3, 224, 224)
    assert gray.abs().max() < 0.02  # ImageNet's mean colour
    assert json.loads((path / "config.json").read_text(encoding="utf-8"))["architecture"] == "resnet18"
    assert "# my_model" in (path / "README.md").read_text(encoding="utf-8")


def test_an_old_folder_is_replaced(resnet18, metadata, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x"
    path.mkdir()
    (path / "old.txt").write_text("old")
    export_huggingface(resnet18, metadata, path)
    assert not (path / "old.txt").exists()


@pytest.fixture(scope="module")
def onnx_path(tmp_path_factory, resnet18):
    for library in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(library)
    path = tmp_path_factory.mktemp("onnx") / "x.onnx"
    metadata = {"architecture": "resnet18", "feature_size": "512", "source": "virtex"}
    export_onnx(resnet18, metadata, path)
    return path


@pytest.mark.parametrize("shape", [(1, 3, 224, 224), (3, 3, 65, 130), (2, 3, 32, 48)])
def test_onnxruntime_gives_torchs_figures_at_any_size(onnx_path, resnet18, shape):
    images = torch.randn(shape)
    session = pytest.importorskip("onnxruntime").InferenceSession(
        onnx_path, providers=["CPUExecutionProvider"]
    )
    features, feature_map = session.run(["features", "feature_map"], {"images": images.numpy()})
    expected = pooled_features(resnet18, images)
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    expected = FeaturesAndMap(resnet18).eval()(images)[1]
    np.testing.assert_allclose(feature_map, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_the_graph_is_one_file_that_says_what_it_is(onnx_path):
    graph = pytest.importorskip("onnx").load(onnx_path)
    assert {prop.key: prop.value for prop in graph.metadata_props}["architecture"] == "resnet18"
    assert next(entry.version for entry in graph.opset_import if entry.domain == "") == 18
    assert list(onnx_path.parent.iterdir()) == [onnx_path]
    names = [dim.dim_param or dim.dim_value for dim in graph.graph.input[0].type.tensor_type.shape.dim]
    assert names == ["batch", 3, "height", "width"]


def test_a_graph_of_another_network_is_refused(onnx_path, trained_resnet, metadata, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "components.export.formats._write_onnx", lambda _, target: shutil.copy(onnx_path, target)
    )
    resnet18 = trained_resnet("resnet18").eval()
    torch.nn.init.zeros_(resnet18.layer4[1].bn2.weight)
    with pytest.raises(RuntimeError, match="onnxruntime differs from torch"):
        export_onnx(resnet18, metadata, tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())
