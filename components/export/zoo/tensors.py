"""The state dict in a file of weights, whoever wrote it, without running anything that is in it."""

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from components.core.errors import InputError
from components.core.tensor_files import require_sound

# Where training code keeps the weights among other state: VirTex, detectron2, timm; MoCo, DINO, lightning.
HOLDERS = ("model", "state_dict")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors by name, on the CPU, from a ``.safetensors`` file or one of ``torch.save``.

    The latter holds a state dict, or a dict with one under ``model`` or ``state_dict``. It is read with
    ``weights_only=True``: a file that wants anything else is refused.

    Raises:
        InputError: if the file cannot be read, or holds something else, or values that are not finite.
    """
    tensors = _tensors(path)
    bad = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    if bad:
        raise InputError(
            f"{path}: {len(bad)} of {len(tensors)} tensors hold values that are NaN or infinite, such as "
            f"{', '.join(bad[:3])}: what was saved had diverged, or the file is damaged"
        )
    return tensors


def _tensors(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        try:
            tensors = load_file(path)
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path}: not a whole safetensors file ({error})") from error
        require_sound(path)
        return tensors
    content = _load(path)
    state = next((content[key] for key in HOLDERS if isinstance(content.get(key), dict)), content)
    others = [str(name) for name, value in state.items() if not isinstance(value, Tensor)]
    if others or not state:
        raise InputError(
            f"{path}: expected a state dict, alone or under {' or '.join(map(repr, HOLDERS))}; found "
            f"{', '.join(sorted(others)[:5]) or 'nothing'}"
        )
    return {str(name): tensor for name, tensor in state.items()}


def _load(path: Path) -> dict[Any, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"{path}: not a file of plain weights as torch.save writes it: it is damaged, or holds code that "
            f"is not run ({reason})"
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a dict of tensors, found a {type(content).__name__}")
    return content
