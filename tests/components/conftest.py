"""Golden values, for the rooms that must reproduce them, and small textual heads."""

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from torch import nn

    from components.models.textual_head import TransformerTextualHead


@pytest.fixture(scope="session")
def golden_dir(shared_dir: Path) -> Path:
    return shared_dir / "golden"


@pytest.fixture(scope="session")
def golden_fill(golden_dir: Path) -> ModuleType:
    """The module that states the filling rule and holds the golden batches."""
    spec = importlib.util.spec_from_file_location("golden_fill", golden_dir / "fill.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.u = functools.cache(module.u)  # type: ignore[attr-defined]  # the same weights again and again
    return module


@pytest.fixture
def make_head() -> Callable[..., "TransformerTextualHead"]:
    """Builds a head of 8 feature channels, 30 tokens and 12 positions whose weights are not tiny."""
    import torch

    from components.models.textual_head import TransformerTextualHead

    def make(spread: float = 0.3, **changes: object) -> TransformerTextualHead:
        torch.manual_seed(0)
        arguments = {"hidden_size": 16, "num_layers": 2, "num_heads": 4, "max_caption_length": 12} | changes
        head = TransformerTextualHead(8, 30, **arguments)  # type: ignore[arg-type]
        with torch.no_grad():
            for parameter in head.parameters():
                parameter.add_(spread * torch.randn_like(parameter))
        return head.double().eval()

    return make


@pytest.fixture(scope="session")
def trained_resnet() -> Callable[[str], "nn.Module"]:
    """Makes a torchvision network with weights and statistics of its own, without fc and avgpool."""
    import torch
    import torchvision

    def make(architecture: str) -> "nn.Module":
        torch.manual_seed(0)
        cnn = torchvision.models.get_model(architecture, weights=None)
        for name, buffer in cnn.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(std=0.1)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 2.0)
            elif name.endswith("num_batches_tracked"):
                buffer.fill_(7)
        cnn.fc, cnn.avgpool = torch.nn.Identity(), torch.nn.Identity()
        return cnn

    return make
