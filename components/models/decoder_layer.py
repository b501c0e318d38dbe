"""The decoder block: over whole captions in training, token by token in decoding, with the same weights."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

KeysValues = tuple[Tensor, Tensor]  # each (batch, heads, positions, head_size)
SubLayer = Callable[[Tensor], Tensor]


class DecoderLayer(nn.TransformerDecoderLayer):
    """Self-attention, attention to the image and feed-forward, each with a residual and a LayerNorm.

    Construction, names and initial weights of the parameters are torch's. The order of residuals and
    norms, after ("post") or before ("pre") each sub-layer, is written once for both ways of use.
    """

    def forward(  # as nn.TransformerDecoder calls it
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """Transform whole captions.

        Shape:
            tgt ``(batch, length, hidden_size)``, memory ``(batch, height * width, hidden_size)``,
            tgt_mask ``(length, length)`` and tgt_key_padding_mask ``(batch, length)`` bool, True hides
            -> ``(batch, length, hidden_size)``
        """

        def see_caption(x: Tensor) -> Tensor:
            attended = self.self_attn(
                x, x, x, attn_mask=tgt_mask, key_padding_mask=tgt_key_padding_mask, need_weights=False
            )
            return self.dropout1(attended[0])

        def see_image(x: Tensor) -> Tensor:
            return self.dropout2(self.multihead_attn(x, memory, memory, need_weights=False)[0])

        def feed_forward(x: Tensor) -> Tensor:
            return self.dropout3(self.linear2(self.dropout(self.activation(self.linear1(x)))))

        with _attention_kernel(tgt.device):
            return self._chain(tgt, see_caption, see_image, feed_forward)

    def step(
        self, x: Tensor, keep: Callable[[Tensor, Tensor], KeysValues], seen: Tensor, image: KeysValues
    ) -> Tensor:
        """Transform one more token of each beam, without dropout.

        Args:
            x: ``(batch, beams, hidden_size)``.
            keep: takes the tokens' keys and values, returns those of all slots.
            seen: ``(batch, 1, beams, slots)`` bool, the slots on each beam's path.
            image: as ``image_keys_values`` returns it.

        Returns:
            ``(batch, beams, hidden_size)``.
        """

        def see_past(x: Tensor) -> Tensor:
            attention = self.self_attn
            projected = linear(x, attention.in_proj_weight, attention.in_proj_bias)
            # each (batch, heads, beams, head_size)
            query, key, value = projected.unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
            keys, values = keep(key, value)
            attended = F.scaled_dot_product_attention(query.contiguous(), keys, values, attn_mask=seen)
            return _join_heads(attention, attended)

        return self._beside_image(x, see_past, image)

    def candidates(self, x: Tensor, length: int, image: KeysValues) -> Tensor:
        """Transform several whole captions of each image, without dropout; a token sees none after it.

        Args:
            x: ``(batch, captions * length, hidden_size)``, one caption after the other.
            length: tokens of a caption; what follows its end is of no account.
            image: as ``image_keys_values`` returns it.

        Returns:
            ``(batch, captions * length, hidden_size)``.
        """

        def see_caption(x: Tensor) -> Tensor:
            attention = self.self_attn
            projected = linear(x, attention.in_proj_weight, attention.in_proj_bias)
            rows = projected.reshape(-1, length, 3 * x.shape[-1])
            query, key, value = rows.unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
            attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
            return _join_heads(attention, attended).reshape_as(x)

        return self._beside_image(x, see_caption, image)

    def _beside_image(self, x: Tensor, see_caption: SubLayer, image: KeysValues) -> Tensor:
        def see_image(x: Tensor) -> Tensor:
            attention, size = self.multihead_attn, x.shape[-1]
            query = linear(x, attention.in_proj_weight[:size], attention.in_proj_bias[:size])
            query = query.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
            return _join_heads(attention, F.scaled_dot_product_attention(query.contiguous(), *image))

        def feed_forward(x: Tensor) -> Tensor:
            hidden = self.activation(linear(x, self.linear1.weight, self.linear1.bias))
            return linear(hidden, self.linear2.weight, self.linear2.bias)

        return self._chain(x, see_caption, see_image, feed_forward)

    def image_keys_values(self, memory: Tensor) -> KeysValues:
        """Project ``(batch, height * width, hidden_size)`` to the image's keys and values, for ``step``."""
        attention, size = self.multihead_attn, memory.shape[-1]
        projected = F.linear(memory, attention.in_proj_weight[size:], attention.in_proj_bias[size:])
        keys, values = projected.unflatten(-1, (2, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return keys, values

    def _chain(self, x: Tensor, see_caption: SubLayer, see_image: SubLayer, feed_forward: SubLayer) -> Tensor:
        if self.norm_first:
            x = x + see_caption(self.norm1(x))
            x = x + see_image(self.norm2(x))
            return x + feed_forward(self.norm3(x))
        x = self.norm1(x + see_caption(x))
        x = self.norm2(x + see_image(x))
        return self.norm3(x + feed_forward(x))


def _attention_kernel(device: torch.device) -> AbstractContextManager[None]:
    """Have attention in bf16 on a CPU computed in steps, as it is with dropout anyway.

    The one kernel for it takes two to four times as long for captions (docs/performance-reasons.md).
    """
    slow = device.type == "cpu" and torch.is_autocast_enabled("cpu")
    return sdpa_kernel(SDPBackend.MATH) if slow else nullcontext()


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Apply ``F.linear`` to few vectors: ``(batch, beams, in)`` -> ``(batch, beams, out)``, channels first.

    With the larger factor on the left a CPU's matrix product is faster (docs/performance-reasons.md).
    """
    product = torch.addmm(bias.unsqueeze(1), weight, x.flatten(0, 1).t())  # (out, batch * beams)
    return product.t().unflatten(0, x.shape[:2])


def _join_heads(attention: nn.MultiheadAttention, attended: Tensor) -> Tensor:
    """Project ``(batch, heads, beams, head_size)`` to ``(batch, beams, hidden_size)``."""
    return linear(attended.transpose(1, 2).flatten(2), attention.out_proj.weight, attention.out_proj.bias)
