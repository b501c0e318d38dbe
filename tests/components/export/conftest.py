"""A backbone with weights and statistics of its own, for the formats to carry."""

import pytest
from torch import nn


@pytest.fixture(scope="session")
def resnet18(trained_resnet) -> nn.Module:
    return trained_resnet("resnet18").requires_grad_(False).eval()


@pytest.fixture
def metadata() -> dict[str, str]:
    return {"architecture": "resnet18", "feature_size": "512", "source": "virtex"}
