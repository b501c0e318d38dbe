"""A pretrained model as one safetensors file that says how to build itself.

The header's metadata: ``format`` "virtex-captioner", ``version`` "1", ``config`` (a ModelConfig as
JSON). Tensors that modules share are stored once, under the first of their names.
"""

from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from components.atomic import writing
from components.errors import InputError
from components.objectives.build import ModelConfig, build_objective
from components.objectives.interface import Objective
from components.stable_safetensors import save_stable

FORMAT = "virtex-captioner"
VERSION = "1"


def save_captioner(path: Path, objective: Objective, config: ModelConfig) -> None:
    """Write the model to ``path``, atomically; tensors keep their dtype, in standard memory layout."""
    names = _first_names(objective)
    tensors = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in objective.state_dict().items()
        if names[name] == name
    }
    metadata = {"format": FORMAT, "version": VERSION, "config": config.model_dump_json()}
    with writing(path) as temporary:
        save_stable(tensors, metadata, temporary)


def load_captioner(path: Path, device: torch.device | str = "cpu") -> tuple[Objective, ModelConfig]:
    """Read a model written by ``save_captioner``, in eval mode, with shared tensors shared again.

    The state of torch's global random generator stays as it was.

    Raises:
        InputError: if the file is missing, damaged or of another kind.
    """
    metadata, tensors = _read(Path(path))
    if metadata.get("format") != FORMAT:
        raise InputError(f"{path}: expected a file of format {FORMAT!r}, found {metadata.get('format')!r}")
    if metadata.get("version") != VERSION:
        raise InputError(
            f"{path}: version {metadata.get('version')!r} is unknown; this program reads {VERSION!r}"
        )
    try:
        config = ModelConfig.model_validate_json(metadata.get("config", ""))
    except ValidationError as error:
        raise InputError(f"{path}: the configuration in its header is not valid: {error}") from error
    with torch.random.fork_rng(devices=[]):
        objective = build_objective(config)
    _fill(path, objective, tensors)
    return objective.to(device).eval(), config


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a model written by the pretrain stage")
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(
            f"{path}: not a whole safetensors file ({error}); write or fetch it again"
        ) from error


def _fill(path: Path, objective: Objective, tensors: dict[str, Tensor]) -> None:
    names = _first_names(objective)
    expected = set(names.values())
    if tensors.keys() != expected:
        missing, unknown = sorted(expected - tensors.keys()), sorted(tensors.keys() - expected)
        raise InputError(
            f"{path}: its tensors do not fit its configuration; missing {missing[:3]}, unknown {unknown[:3]}"
        )
    state = objective.state_dict()
    for name, tensor in tensors.items():
        if tensor.shape != state[name].shape:
            raise InputError(
                f"{path}: its tensors do not fit its configuration; {name} has shape {tuple(tensor.shape)} "
                f"where {tuple(state[name].shape)} is expected"
            )
    objective.load_state_dict({name: tensors[first] for name, first in names.items()})


def _first_names(objective: Objective) -> dict[str, str]:
    """Each name of the state dict, with the first name of the same tensor."""
    first: dict[int, str] = {}
    tensors = objective.state_dict(keep_vars=True)
    return {name: first.setdefault(id(tensor), name) for name, tensor in tensors.items()}
