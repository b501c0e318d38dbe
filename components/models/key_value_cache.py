"""Incremental decoding: one token a step, keys and values of earlier steps kept.

It computes with the parameters of the head's own ``nn.TransformerDecoderLayer`` modules, so there is
no second set of weights; dropout is left out. Tests hold it equal to the head's full forward.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from components.models.kept_beams import KeptBeams
from components.models.textual_head import TransformerTextualHead

KeysValues = tuple[Tensor, Tensor]


class KeyValueCache:
    """State of a batch of captions that grow together, ``beams`` of them an image.

    The projected feature map is held once an image, whatever the number of beams: beams are
    further queries to the same keys.

    Attributes:
        length: tokens fed so far; the next one stands at this position.
    """

    def __init__(self, head: TransformerTextualHead, visual_features: Tensor) -> None:
        """Start with one empty caption an image.

        Args:
            head: a causal textual head.
            visual_features: ``(batch, feature_size, height, width)``.
        """
        if not head.causal:
            raise ValueError("only a causal textual head can decode token by token")
        self.head = head
        self.length = 0
        memory = head.project(visual_features)  # (batch, height * width, hidden_size)
        self._memory = [_project_keys_values(layer.multihead_attn, memory) for layer in self._layers]
        self._past = KeptBeams(len(self._memory))

    @property
    def _layers(self) -> list[nn.TransformerDecoderLayer]:
        return list(self.head.transformer.layers)

    def step(self, tokens: Tensor) -> Tensor:
        """Feed one token a caption and predict the next.

        Shape:
            tokens ``(batch, beams)`` int64 -> logits ``(batch, beams, vocab_size)``

        Raises:
            ValueError: when the head has no position left.
        """
        if self.length >= self.head.max_caption_length:
            raise ValueError(f"the textual head has only {self.head.max_caption_length} positions")
        batch, beams = tokens.shape
        embedded = self.head.embedding(tokens.reshape(-1, 1), first_position=self.length)
        x = embedded.view(batch, beams, -1)
        self._past.grow(tokens)
        for index, layer in enumerate(self._layers):
            x = self._layer_step(index, layer, x)
        if self.head.transformer.norm is not None:
            x = self.head.transformer.norm(x)
        self.length += 1
        return _linear(x, self.head.output.weight, self.head.output.bias).contiguous()

    def select(self, beams: Tensor) -> None:
        """Go on with these old beams of each image, by index: ``(batch, new_beams)`` int64."""
        self._past.select(beams)

    def _layer_step(self, index: int, layer: nn.TransformerDecoderLayer, x: Tensor) -> Tensor:
        if layer.norm_first:
            x = x + self._attend_to_past(index, layer.self_attn, layer.norm1(x))
            x = x + self._attend_to_image(index, layer.multihead_attn, layer.norm2(x))
            return x + _feed_forward(layer, layer.norm3(x))
        x = layer.norm1(x + self._attend_to_past(index, layer.self_attn, x))
        x = layer.norm2(x + self._attend_to_image(index, layer.multihead_attn, x))
        return layer.norm3(x + _feed_forward(layer, x))

    def _attend_to_past(self, index: int, attention: nn.MultiheadAttention, x: Tensor) -> Tensor:
        projected = _linear(x, attention.in_proj_weight, attention.in_proj_bias)
        # each (batch, heads, beams, head_size)
        query, key, value = projected.unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
        keys, values = self._past.keep(index, key, value)
        attended = F.scaled_dot_product_attention(query.contiguous(), keys, values, attn_mask=self._past.mask)
        return _join_heads(attention, attended)

    def _attend_to_image(self, index: int, attention: nn.MultiheadAttention, x: Tensor) -> Tensor:
        size = x.shape[-1]
        query = _linear(x, attention.in_proj_weight[:size], attention.in_proj_bias[:size])
        query = query.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
        # (batch, heads, beams, head_size)
        attended = F.scaled_dot_product_attention(query.contiguous(), *self._memory[index])
        return _join_heads(attention, attended)


def _project_keys_values(attention: nn.MultiheadAttention, memory: Tensor) -> KeysValues:
    """Keys and values, each ``(batch, heads, height * width, head_size)``."""
    size = memory.shape[-1]
    projected = F.linear(memory, attention.in_proj_weight[size:], attention.in_proj_bias[size:])
    keys, values = projected.unflatten(-1, (2, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    return keys, values


def _join_heads(attention: nn.MultiheadAttention, attended: Tensor) -> Tensor:
    """``(batch, heads, beams, head_size)`` -> ``(batch, beams, hidden_size)``."""
    return _linear(attended.transpose(1, 2).flatten(2), attention.out_proj.weight, attention.out_proj.bias)


def _feed_forward(layer: nn.TransformerDecoderLayer, x: Tensor) -> Tensor:
    hidden = layer.activation(_linear(x, layer.linear1.weight, layer.linear1.bias))
    return _linear(hidden, layer.linear2.weight, layer.linear2.bias)


def _linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``F.linear`` for few vectors, ``(batch, beams, in)`` -> ``(batch, beams, out)``, channels lying first.

    With the larger factor on the left a CPU's matrix product is faster (docs/performance.md).
    """
    product = torch.addmm(bias.unsqueeze(1), weight, x.flatten(0, 1).t())  # (out, batch * beams)
    return product.t().unflatten(0, x.shape[:2])
