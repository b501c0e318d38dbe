import json

import pytest
import torch
import torchvision

from components.export.detectron2 import detectron2_name, export_detectron2, torchvision_name
from components.models.backbones import TRUNK, pooled_features


def test_names_are_the_golden_ones(golden_dir):
    pairs = json.loads((golden_dir / "detectron2_keys.json").read_text(encoding="utf-8"))["resnet50"]
    assert len(pairs) == 318
    assert [detectron2_name(theirs) for theirs, _ in pairs] == [name for _, name in pairs]
    assert [torchvision_name(name) for _, name in pairs] == [theirs for theirs, _ in pairs]


@pytest.mark.parametrize("architecture", ["resnet18", "resnet101", "wide_resnet50_2"])
def test_names_lead_back_and_none_falls_together(architecture):
    with torch.device("meta"):
        state = torchvision.models.get_model(architecture, weights=None).state_dict()
    names = [name for name in state if name.partition(".")[0] in TRUNK]
    renamed = [detectron2_name(name) for name in names]
    assert len(set(renamed)) == len(names)
    assert [torchvision_name(name) for name in renamed] == names
    with pytest.raises(ValueError, match="fc"):
        detectron2_name("fc.weight")


def test_the_file_holds_the_same_network_under_other_names(resnet18, metadata, tmp_path):
    export_detectron2(resnet18, metadata, tmp_path / "x.pth")
    content = torch.load(tmp_path / "x.pth", weights_only=True)
    assert set(content) == {"model", "__author__", "matching_heuristics"}
    assert content["matching_heuristics"] is True
    loaded = torchvision.models.resnet18()
    loaded.load_state_dict({torchvision_name(name): t for name, t in content["model"].items()}, strict=False)
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(pooled_features(loaded.eval(), images), pooled_features(resnet18, images))


def test_detectron2_gets_the_same_feature_maps(trained_resnet, metadata, tmp_path):
    pytest.importorskip("detectron2", reason="detectron2 is installed by hand")
    from detectron2.checkpoint import DetectionCheckpointer
    from detectron2.config import get_cfg
    from detectron2.modeling import build_backbone
    from detectron2.modeling.meta_arch import GeneralizedRCNN  # noqa: F401  # registers the backbones

    cnn = trained_resnet("resnet50").requires_grad_(False).eval()
    export_detectron2(cnn, metadata | {"architecture": "resnet50"}, tmp_path / "x.pth")
    cfg = get_cfg()
    cfg.MODEL.RESNETS.STRIDE_IN_1X1 = False
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res4", "res5"]
    cfg.MODEL.RESNETS.NORM = "BN"
    backbone = build_backbone(cfg).eval()
    holder = torch.nn.ModuleDict({"backbone": backbone})
    DetectionCheckpointer(holder).load(str(tmp_path / "x.pth"))
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(
            backbone(images)["res5"].mean(dim=(2, 3)), pooled_features(cnn, images), rtol=1e-4, atol=1e-5
        )
