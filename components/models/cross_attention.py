"""Where in the image a textual head looked for each token of a caption."""

from typing import Any

import torch
from torch import Tensor, nn

from components.core.caption_tokens import SOS_ID
from components.models.textual_head import TransformerTextualHead


@torch.no_grad()
def cross_attention(head: TransformerTextualHead, visual_features: Tensor, tokens: Tensor) -> Tensor:
    """Attention of the last layer to the feature map while it predicted each token, mean over heads.

    One forward pass over captions that are already written; decoding itself keeps no weights. What
    stands after a caption's [EOS] does not change what comes before it.

    Shape:
        visual_features ``(batch, feature_size, height, width)``,
        tokens ``(batch, length)`` int64, captions without [SOS]
        -> ``(batch, length, height, width)``, each map sums to 1
    """
    batch, length = tokens.shape
    start = torch.full((batch, 1), SOS_ID, device=tokens.device)
    inputs = torch.cat([start, tokens[:, :-1]], dim=1)  # token i is predicted at position i
    attention = head.transformer.layers[-1].get_submodule("multihead_attn")
    kept: list[Tensor] = []

    def ask(_module: nn.Module, arguments: Any, options: dict[str, Any]) -> Any:
        return arguments, options | {"need_weights": True, "average_attn_weights": True}

    def keep(_module: nn.Module, _arguments: Any, result: tuple[Tensor, Tensor]) -> None:
        kept.append(result[1])

    handles = (
        attention.register_forward_pre_hook(ask, with_kwargs=True),
        attention.register_forward_hook(keep),
    )
    try:
        head(visual_features, inputs, torch.full((batch,), length, device=tokens.device))
    finally:
        for handle in handles:
            handle.remove()
    return kept[0].unflatten(-1, visual_features.shape[-2:])
