"""A pretrained model as one safetensors file that states how to build it.

The header's metadata: ``format`` "virtex-captioner", ``version`` "1", ``config`` (a ModelConfig as
JSON), and where the model can caption from this file alone a tensor ``tokenizer_model``, ``crop_size``,
``image_size`` and ``antialias`` ("true" or "false"). Older files lack the last two and are read as they
were measured: the shorter side as large as the crop, antialiased. Tensors that modules share are stored
once, under the first of their names.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from components.core.errors import InputError
from components.core.files import writing
from components.core.tensor_files import require_sound, save_stable
from components.objectives.build import ModelConfig, build_objective
from components.objectives.interface import Objective

FORMAT = "virtex-captioner"
VERSION = "1"
TOKENIZER = "tokenizer_model"  # no module of an objective has this name
_AGAIN = "write or fetch it again"


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How images and captions were preprocessed for a model: what it needs besides its weights to caption.

    Attributes:
        crop_size: pixels, of the square images it was trained on.
        tokenizer_model: the SentencePiece model, the content of its file.
        image_size: pixels, shorter side from which that square is cut to caption; None: the crop's.
        antialias: whether images are antialiased where they shrink.
    """

    crop_size: int
    tokenizer_model: bytes
    image_size: int | None = None
    antialias: bool = True

    @property
    def scale(self) -> int:
        """Pixels of the shorter side."""
        return self.crop_size if self.image_size is None else self.image_size


def save_captioner(
    path: Path, objective: Objective, config: ModelConfig, preprocessing: Preprocessing | None = None
) -> None:
    """Write the model to ``path``, atomically; tensors keep their dtype, in standard memory layout.

    Without ``preprocessing`` the file is whole for all uses but captioning images on its own.
    """
    names = first_names(objective)
    tensors = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in objective.state_dict().items()
        if names[name] == name
    }
    metadata = {"format": FORMAT, "version": VERSION, "config": config.model_dump_json()}
    if preprocessing is not None:
        tensors[TOKENIZER] = torch.frombuffer(bytearray(preprocessing.tokenizer_model), dtype=torch.uint8)
        metadata |= _described(preprocessing)
    with writing(path) as temporary:
        save_stable(tensors, metadata, temporary)


def copy_captioner(path: Path, target: Path, image_size: int | None, antialias: bool) -> None:
    """Copy a file of ``save_captioner``, atomically; where it can caption, the copy does so at this scale.

    Raises:
        InputError: if the file is missing, damaged or of another kind.
    """
    preprocessing = load_preprocessing(path)
    require_sound(path)  # or the copy would vouch for what is damaged
    with _opened(path) as file, writing(target) as temporary:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = dict(file.metadata())
        if preprocessing is not None:
            metadata |= _described(replace(preprocessing, image_size=image_size, antialias=antialias))
        save_stable(tensors, metadata, temporary)


def _described(preprocessing: Preprocessing) -> dict[str, str]:
    """Return the header's entries."""
    size = {} if preprocessing.image_size is None else {"image_size": str(preprocessing.image_size)}
    antialias = str(preprocessing.antialias).lower()
    return {"crop_size": str(preprocessing.crop_size), **size, "antialias": antialias}


def load_captioner(path: Path, device: torch.device | str = "cpu") -> tuple[Objective, ModelConfig]:
    """Read a model written by ``save_captioner``, in eval mode, with shared tensors shared again.

    The state of torch's global random generator stays as it was.

    Raises:
        InputError: if the file is missing, damaged or of another kind.
    """
    with _opened(Path(path)) as file:
        config = _config(path, file.metadata() or {})
        tensors = {name: file.get_tensor(name) for name in file.keys() if name != TOKENIZER}  # noqa: SIM118
    with torch.random.fork_rng(devices=[]):
        objective = build_objective(config)
    _fill(path, objective, tensors)
    require_sound(Path(path))
    return objective.to(device).eval(), config


def load_preprocessing(path: Path) -> Preprocessing | None:
    """Read what ``save_captioner`` was given besides the model; None if nothing.

    The file's digest is `load_captioner`'s to check.

    Raises:
        InputError: if the file is missing, damaged or of another kind.
    """
    with _opened(Path(path)) as file:
        metadata = file.metadata() or {}
        _config(path, metadata)
        if TOKENIZER not in file.keys():  # noqa: SIM118
            return None
        tokenizer_model = file.get_tensor(TOKENIZER).numpy().tobytes()
    crop_size = _pixels(path, metadata, "crop_size")
    image_size = _pixels(path, metadata, "image_size") if "image_size" in metadata else None
    if image_size is not None and image_size < crop_size:
        raise InputError(
            f"{path}: image_size {image_size} in its header is less than crop_size {crop_size}; {_AGAIN}"
        )
    return Preprocessing(crop_size, tokenizer_model, image_size, metadata.get("antialias", "true") == "true")


def _pixels(path: Path, metadata: dict[str, str], key: str) -> int:
    value = metadata.get(key, "")
    if not value.isdecimal() or int(value) == 0:
        raise InputError(f"{path}: {key} {value!r} in its header is not a number of pixels; {_AGAIN}")
    return int(value)


def _config(path: Path, metadata: dict[str, str]) -> ModelConfig:
    if metadata.get("format") != FORMAT:
        raise InputError(f"{path}: expected a file of format {FORMAT!r}, found {metadata.get('format')!r}")
    if metadata.get("version") != VERSION:
        raise InputError(
            f"{path}: version {metadata.get('version')!r} is unknown; this program reads {VERSION!r}"
        )
    try:
        return ModelConfig.model_validate_json(metadata.get("config", ""))
    except ValidationError as error:
        raise InputError(
            f"{path}: the configuration in its header is not valid; {_AGAIN}: {error}"
        ) from error


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a model written by the pretrain stage")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise InputError(f"{path}: not a whole safetensors file ({error}); {_AGAIN}") from error


def _fill(path: Path, objective: Objective, tensors: dict[str, Tensor]) -> None:
    names = first_names(objective)
    state = objective.state_dict()
    expected = {first: state[first] for first in names.values()}
    check_tensors(tensors, expected, f"{path}: its tensors do not fit its configuration ({_AGAIN})")
    objective.load_state_dict({name: tensors[first] for name, first in names.items()})


def check_tensors(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], fault: str) -> None:
    """Hold names and shapes of a file's tensors to those of a model; ``fault`` begins the error.

    Raises:
        InputError: if they are others.
    """
    missing, unknown = sorted(expected.keys() - tensors), sorted(tensors.keys() - expected)
    if missing or unknown:
        raise InputError(f"{fault}; missing {missing[:3]}, unknown {unknown[:3]}")
    for name, tensor in tensors.items():
        found, wanted = tuple(tensor.shape), tuple(expected[name].shape)
        if found != wanted:
            raise InputError(f"{fault}; {name} has shape {found} where {wanted} is expected")


def first_names(objective: Objective) -> dict[str, str]:
    """Map each name of the state dict to the first name of the same tensor."""
    first: dict[int, str] = {}
    tensors = objective.state_dict(keep_vars=True)
    return {name: first.setdefault(id(tensor), name) for name, tensor in tensors.items()}
