"""From a configuration to a model with its loss."""

from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field

from components.models.backbones import build_backbone
from components.models.contrastive_head import ContrastiveHead
from components.models.textual_head import LinearTextualHead, TransformerTextualHead
from components.objectives.captioning import (
    BicaptioningObjective,
    CaptioningObjective,
    MaskedLMObjective,
    ParallelBicaptioningObjective,
    ParallelCaptioningObjective,
    TransformerObjective,
)
from components.objectives.classification import (
    ClassificationObjective,
    IdfTokenClassificationObjective,
    MultilabelClassificationObjective,
    TokenClassificationObjective,
)
from components.objectives.contrastive import ContrastiveClassificationObjective, ContrastiveObjective
from components.objectives.interface import Objective
from components.params import Backbone, TextualHead
from components.params import Objective as ObjectiveSection

TRANSFORMER_OBJECTIVES: dict[str, type[TransformerObjective]] = {
    "bicaptioning": BicaptioningObjective,
    "captioning": CaptioningObjective,
    "masked_lm": MaskedLMObjective,
    "parallel_captioning": ParallelCaptioningObjective,
    "parallel_bicaptioning": ParallelBicaptioningObjective,
}
LINEAR_OBJECTIVES: dict[str, type[ClassificationObjective]] = {
    "token_classification": TokenClassificationObjective,
    "idf_token_classification": IdfTokenClassificationObjective,
    "multilabel_classification": MultilabelClassificationObjective,
}


class ModelConfig(BaseModel):
    """All that decides a model's architecture; saved beside its weights.

    ``model_dump_json()`` and ``ModelConfig.model_validate_json()`` are inverse to each other.

    Attributes:
        vocab_size: token ids, or label ids with the background for multilabel classification.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    backbone: Backbone
    textual_head: TextualHead
    objective: ObjectiveSection
    vocab_size: Annotated[int, Field(ge=2)]


def build_objective(config: ModelConfig) -> Objective:
    """Build the model with weights drawn from torch's global generator.

    Raises:
        InputError: for an unknown backbone.
    """
    backbone = config.backbone
    visual = build_backbone(backbone.name, backbone.zero_init_residual, backbone.drop_path)
    name, smoothing = config.objective.name, config.objective.label_smoothing
    if name in LINEAR_OBJECTIVES:
        linear = LinearTextualHead(visual.feature_size, config.vocab_size)
        return LINEAR_OBJECTIVES[name](visual, linear, smoothing)
    head = config.textual_head
    if name.startswith("contrastive"):
        bias = config.objective.contrastive_bias
        towers = ContrastiveHead(visual.feature_size, config.vocab_size, head, bias)
        if name == "contrastive":
            return ContrastiveObjective(visual, towers)
        linear = LinearTextualHead(visual.feature_size, config.vocab_size)
        return ContrastiveClassificationObjective(visual, towers, linear, smoothing)
    textual = TransformerTextualHead(
        visual.feature_size,
        config.vocab_size,
        head.hidden_size,
        num_layers=head.num_layers,
        num_heads=head.num_heads,
        ffn_size=head.ffn_size,
        norm=head.norm,
        dropout=head.dropout,
        max_caption_length=head.max_caption_length,
        causal=name != "masked_lm",
        init_std=head.init_std,
        embedding_init_std=head.embedding_init_std,
    )
    return TRANSFORMER_OBJECTIVES[name](visual, textual, smoothing)


def model_bytes(config: ModelConfig) -> float:
    """Return the size of a model's weights without making them; infinite where torch cannot count that far.

    Raises:
        InputError: for an unknown backbone.
    """
    one, two = (_bytes_with_layers(config, number) for number in (1, 2))
    return one + (config.textual_head.num_layers - 1) * (two - one) if two > one else one


def _bytes_with_layers(config: ModelConfig, num_layers: int) -> float:
    head = config.textual_head.model_copy(update={"num_layers": num_layers})
    try:
        with torch.device("meta"):
            model = build_objective(config.model_copy(update={"textual_head": head}))
    except (RuntimeError, OverflowError, TypeError):  # more than 64 bits of elements or of bytes
        return float("inf")
    tensors = (*model.parameters(), *model.buffers())  # each once, also where modules share it
    return float(sum(value.numel() * value.element_size() for value in tensors))
