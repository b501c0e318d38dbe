import shutil

import numpy as np
import pytest
import torch

from components.export.backbone import pooled_features
from components.export.onnx import FeaturesAndMap, export_onnx

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.fixture(scope="module")
def path(tmp_path_factory, resnet18):
    path = tmp_path_factory.mktemp("onnx") / "x.onnx"
    metadata = {"architecture": "resnet18", "feature_size": "512", "source": "virtex"}
    export_onnx(resnet18, metadata, path)
    return path


@pytest.mark.parametrize("shape", [(1, 3, 224, 224), (3, 3, 65, 130), (2, 3, 32, 48)])
def test_onnxruntime_gives_torchs_figures_at_any_size(path, resnet18, shape):
    images = torch.randn(shape)
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    features, feature_map = session.run(["features", "feature_map"], {"images": images.numpy()})
    expected = pooled_features(resnet18, images)
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    expected = FeaturesAndMap(resnet18).eval()(images)[1]
    np.testing.assert_allclose(feature_map, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_the_graph_is_one_file_that_says_what_it_is(path):
    graph = onnx.load(path)
    assert {prop.key: prop.value for prop in graph.metadata_props}["architecture"] == "resnet18"
    assert next(entry.version for entry in graph.opset_import if entry.domain == "") == 18
    assert list(path.parent.iterdir()) == [path]
    names = [dim.dim_param or dim.dim_value for dim in graph.graph.input[0].type.tensor_type.shape.dim]
    assert names == ["batch", 3, "height", "width"]


def test_a_graph_of_another_network_is_refused(path, trained_resnet, metadata, tmp_path, monkeypatch):
    monkeypatch.setattr("components.export.onnx._write", lambda _, target: shutil.copy(path, target))
    resnet18 = trained_resnet("resnet18").eval()
    torch.nn.init.zeros_(resnet18.layer4[1].bn2.weight)
    with pytest.raises(RuntimeError, match="onnxruntime differs from torch"):
        export_onnx(resnet18, metadata, tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())
