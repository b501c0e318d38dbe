"""Golden values, for the rooms that must reproduce them, and small textual heads."""

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
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
