"""A backbone with weights and statistics of its own, for the formats to carry."""

import pytest
import torch
import torchvision
from torch import nn


@pytest.fixture(scope="session")
def trained_resnet():
    """A function from a torchvision name to such a network, with fc and avgpool taken away."""
    return _trained_resnet


def _trained_resnet(architecture: str) -> nn.Module:
    torch.manual_seed(0)
    cnn = torchvision.models.get_model(architecture, weights=None)
    for name, buffer in cnn.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(std=0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2.0)
        elif name.endswith("num_batches_tracked"):
            buffer.fill_(7)
    cnn.fc, cnn.avgpool = nn.Identity(), nn.Identity()
    return cnn


@pytest.fixture(scope="session")
def resnet18(trained_resnet) -> nn.Module:
    return trained_resnet("resnet18").requires_grad_(False).eval()


@pytest.fixture
def metadata() -> dict[str, str]:
    return {"architecture": "resnet18", "feature_size": "512", "source": "virtex"}
