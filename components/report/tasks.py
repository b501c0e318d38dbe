"""What the report calls things under each pretraining task."""

from typing import Any

LOSS_TITLES = {
    "bicaptioning": "Loss of both directions, nats a token",
    "captioning": "Loss, nats a token",
    "masked_lm": "Loss, nats a hidden token",
    "token_classification": "Loss, nats an image",
    "multilabel_classification": "Loss, nats an image",
}


def taught_by(objective: str) -> str:
    """What people wrote or marked that the backbone learns from."""
    return "object labels" if objective == "multilabel_classification" else "captions"


def loss_parts(pretraining: dict[str, Any]) -> dict[str, float]:
    """Validation losses by title from pretraining's metrics.json, where the loss is a sum."""
    parts = pretraining.get("val")
    if not isinstance(parts, dict) or len(parts) < 2:
        return {}
    return {f"Validation, {name.replace('_', ' ')}": value for name, value in parts.items()}
