"""Whole VirTex models from the original authors' checkpoints: names and shapes of tensors tell which."""

import re
from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor

from components.core.errors import InputError
from components.export.zoo.resnets import find_resnet
from components.objectives.build import TRANSFORMER_OBJECTIVES, ModelConfig, build_objective
from components.objectives.interface import Objective
from components.objectives.saved import check_tensors, first_names
from components.params import Backbone, TextualHead, paper_heads
from components.params import Objective as ObjectiveSection

WORDS, POSITIONS = "textual.embedding.words.weight", "textual.embedding.positions.weight"
OUTPUT = "textual.output.weight"
LAYER = "textual.transformer.layers"
CATEGORIES = 81  # of COCO with the background: the labels of multilabel classification
DROPOUT = 0.1  # of every published model; leaves no trace in the weights
Alike = Literal["captioning", "masked_lm"]  # two tasks whose models have the same tensors


def is_captioner(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether there is a textual head beside the backbone."""
    return OUTPUT in _without_ddp(tensors)


def build_captioner(
    tensors: Mapping[str, Tensor], source: str, alike: Alike | None = None
) -> tuple[Objective, ModelConfig]:
    """Build the model that a state dict belongs to, with its weights, in float32 and eval mode.

    Args and errors are those of `infer_config`; an InputError too if names, shapes or shared tensors are
    not those of the model that it finds.
    """
    config = infer_config(tensors, source, alike)
    with torch.random.fork_rng(devices=[]):
        objective = build_objective(config)
    trunk = {f"visual.cnn.{name}": value for name, value in find_resnet(tensors, source).state.items()}
    _fill(objective, {**_without_ddp(tensors), **trunk}, source)
    return objective.eval(), config


def infer_config(tensors: Mapping[str, Tensor], source: str, alike: Alike | None = None) -> ModelConfig:
    """Infer the configuration of a VirTex model from the names and shapes of its tensors.

    Attention heads leave no trace in them: the paper's number is taken.

    Args:
        tensors: names and shapes as in VirTex's public code; a ``module.`` before them is ignored.
        source: names the file in errors; its file name may tell ``captioning`` from ``masked_lm``.
        alike: which of these two it is, if it is one of them.

    Raises:
        InputError: if it is no VirTex model, or may be either of the two.
    """
    resnet = find_resnet(tensors, source)
    tensors = _without_ddp(tensors)
    if OUTPUT not in tensors:
        raise InputError(f"{source}: a backbone without a textual head; expected a whole VirTex model")
    name = _objective_name(tensors, source, alike)
    return ModelConfig(
        backbone=Backbone(name=resnet.architecture, zero_init_residual=True),
        textual_head=_head(tensors, source) if name in TRANSFORMER_OBJECTIVES else PAPERS_HEAD,
        objective=ObjectiveSection.model_validate({"name": name}),
        vocab_size=len(tensors[OUTPUT]),
    )


# The classification models have no transformer; their configuration names the paper's all the same.
PAPERS_HEAD = TextualHead(
    hidden_size=2048,
    num_layers=1,
    attention_heads=None,
    feedforward_size=None,
    norm="post",
    dropout=DROPOUT,
    max_caption_length=30,
)


def _without_ddp(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}


def _objective_name(tensors: Mapping[str, Tensor], source: str, alike: Alike | None) -> str:
    if WORDS not in tensors:
        return "multilabel_classification" if len(tensors[OUTPUT]) == CATEGORIES else "token_classification"
    if any(name.startswith("backward_textual.") for name in tensors):
        return "bicaptioning"
    file_name = source.partition("#")[0].rpartition("/")[2]
    told = alike or next((name for name in get_args(Alike) if name in file_name), None)
    if told is None:
        raise InputError(
            f"{source}: captioning and masked_lm have the same tensors; say which it is with "
            f"--objective captioning or --objective masked_lm"
        )
    return told


def _head(tensors: Mapping[str, Tensor], source: str) -> TextualHead:
    try:
        hidden_size, positions = tensors[WORDS].shape[1], len(tensors[POSITIONS])
        feedforward = len(tensors[f"{LAYER}.0.linear1.weight"])
    except KeyError as error:
        raise InputError(f"{source}: not a VirTex model: it has {WORDS} but not {error.args[0]}") from None
    layers = {match[1] for name in tensors if (match := re.match(rf"{LAYER}\.(\d+)\.", name))}
    if hidden_size % paper_heads(hidden_size):
        raise InputError(f"{source}: width {hidden_size} is not a multiple of 64, as VirTex's heads need")
    return TextualHead(
        hidden_size=hidden_size,
        num_layers=len(layers),
        attention_heads=None,
        feedforward_size=None if feedforward == 4 * hidden_size else feedforward,
        norm="pre" if "textual.transformer.norm.weight" in tensors else "post",
        dropout=DROPOUT,
        max_caption_length=positions,
    )


def _fill(objective: Objective, tensors: Mapping[str, Tensor], source: str) -> None:
    """Load all tensors; those which the model shares must be equal."""
    check_tensors(tensors, objective.state_dict(), f"{source}: not a whole VirTex model")
    for name, shared in first_names(objective).items():
        if not torch.equal(tensors[name], tensors[shared]):
            raise InputError(f"{source}: {name} and {shared} differ; a VirTex model shares them")
    objective.load_state_dict(dict(tensors))
