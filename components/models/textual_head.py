"""Textual heads: the transformer that predicts caption tokens (paper, section 3.1), and a linear layer."""

import copy
import functools
from typing import Literal

import torch
from torch import Tensor, nn

from components.core.caption_tokens import PAD_ID
from components.core.errors import InputError
from components.models.decoder_layer import DecoderLayer, KeysValues
from components.params import paper_heads


class TransformerTextualHead(nn.Module):
    """Projection of the feature map, token embedding, transformer decoder and output layer.

    The output layer shares its weight with the word embedding and has a bias of its own.
    With ``norm="pre"`` each block normalises its input and a last LayerNorm follows the stack.

    Shape:
        visual_features ``(batch, feature_size, height, width)``,
        caption_tokens ``(batch, length)`` int64, padded with 0 on the right,
        caption_lengths ``(batch,)`` int64
        -> logits ``(batch, length, vocab_size)``
    """

    def __init__(
        self,
        feature_size: int,
        vocab_size: int,
        hidden_size: int,
        num_layers: int = 1,
        num_heads: int | None = None,
        ffn_size: int | None = None,
        norm: Literal["post", "pre"] = "post",
        dropout: float = 0.1,
        max_caption_length: int = 30,
        causal: bool = True,
        init_std: float = 0.02,
        embedding_init_std: float = 0.02,
    ) -> None:
        """Build the head with weights drawn from normal distributions.

        Args:
            feature_size: channels of the feature map.
            vocab_size: number of token ids.
            hidden_size: width of the transformer.
            num_layers: decoder layers.
            num_heads: attention heads; None for the paper's number.
            ffn_size: width of the feed-forward block; None for ``4 * hidden_size``.
            norm: LayerNorm after ("post") or before ("pre") each block.
            dropout: probability, everywhere.
            max_caption_length: number of learned positions.
            causal: whether a token is hidden from those before it; False for masked language modelling.
            init_std: standard deviation of the layers' first weights. The paper's 0.02 is about
                1 / sqrt(2048), which suits its width: in a narrow head what is seen would fade on its
                way to the words.
            embedding_init_std: of the embeddings' first weights, the output layer's among them.

        Raises:
            InputError: if the heads do not divide the width, or ``norm`` is neither "post" nor "pre".
        """
        super().__init__()
        num_heads = num_heads or paper_heads(hidden_size)
        ffn_size = ffn_size or 4 * hidden_size
        if hidden_size % num_heads:
            raise InputError(f"hidden_size {hidden_size} is not a multiple of attention_heads {num_heads}")
        if norm not in ("post", "pre"):
            raise InputError(f"norm must be 'post' or 'pre', not {norm!r}")
        self.max_caption_length = max_caption_length
        self.causal = causal

        self.visual_projection = nn.Linear(feature_size, hidden_size)
        self.embedding = WordAndPositionEmbedding(vocab_size, hidden_size, max_caption_length, dropout)
        layer = DecoderLayer(
            hidden_size,
            num_heads,
            dim_feedforward=ffn_size,
            dropout=dropout,
            activation="gelu",
            batch_first=True,
            norm_first=norm == "pre",
        )
        last_norm = nn.LayerNorm(hidden_size) if norm == "pre" else None
        self.transformer = nn.TransformerDecoder(layer, num_layers, norm=last_norm)
        self.output = nn.Linear(hidden_size, vocab_size)
        self.apply(functools.partial(draw_weights, std=init_std, embedding_std=embedding_init_std))
        self.output.weight = self.embedding.words.weight

    def forward(self, visual_features: Tensor, caption_tokens: Tensor, caption_lengths: Tensor) -> Tensor:
        """Return logits of the token that follows each token (or stands there, if not causal)."""
        return self.output(self.decode(self.project(visual_features), caption_tokens, caption_lengths))

    def decode(self, memory: Tensor, caption_tokens: Tensor, caption_lengths: Tensor | None) -> Tensor:
        """Return the output layer's input: a vector per token, from ``memory`` as ``project`` returns it.

        Without ``caption_lengths`` no token is hidden from any other, be the head causal or not.

        Shape:
            memory ``(batch, height * width, hidden_size)`` -> ``(batch, length, hidden_size)``
        """
        if caption_lengths is None:
            return self.transformer(self.embedding(caption_tokens), memory)
        positions = torch.arange(caption_tokens.shape[1], device=caption_tokens.device)
        is_padding = positions >= caption_lengths.unsqueeze(1)  # (batch, length)
        is_future = positions > positions.unsqueeze(1) if self.causal else None  # (length, length)
        return self.transformer(
            self.embedding(caption_tokens),  # (batch, length, hidden_size)
            memory,
            tgt_mask=is_future,
            tgt_key_padding_mask=is_padding,
            tgt_is_causal=False,  # the mask is passed; a guess would cost a device synchronisation
        )

    def project(self, visual_features: Tensor) -> Tensor:
        """Project ``(batch, feature_size, height, width)`` to ``(batch, height * width, hidden_size)``."""
        return self.visual_projection(visual_features.flatten(2).transpose(1, 2))

    def images(self, memory: Tensor) -> list[KeysValues]:
        """Return the keys and values of images for each layer; ``memory`` as ``project`` returns it."""
        layers: list[DecoderLayer] = list(self.transformer.layers)
        return [layer.image_keys_values(memory) for layer in layers]

    def decode_candidates(self, images: list[KeysValues], caption_tokens: Tensor) -> Tensor:
        """Return ``decode`` of the same captions for every image, in eval mode; images from ``images``.

        Shape:
            caption_tokens ``(captions, length)`` -> ``(batch, captions, length, hidden_size)``
        """
        batch, (captions, length) = len(images[0][0]), caption_tokens.shape
        x = self.embedding(caption_tokens).flatten(0, 1).expand(batch, -1, -1)
        layers: list[DecoderLayer] = list(self.transformer.layers)
        for layer, image in zip(layers, images, strict=True):
            x = layer.candidates(x, length, image)
        if self.transformer.norm is not None:
            x = self.transformer.norm(x)
        return x.unflatten(1, (captions, length))

    def twin(self) -> "TransformerTextualHead":
        """Return a head with a copy of this one's transformer that shares all other modules."""
        shared = (self.visual_projection, self.embedding, self.output)
        return copy.deepcopy(self, {id(module): module for module in shared})


class WordAndPositionEmbedding(nn.Module):
    """Sum of word and position embedding, layer-normalised, dropped out, zero at padding.

    Shape:
        tokens ``(batch, length)`` int64 -> ``(batch, length, hidden_size)``
    """

    def __init__(self, vocab_size: int, hidden_size: int, max_length: int, dropout: float) -> None:
        super().__init__()
        self.words = nn.Embedding(vocab_size, hidden_size, padding_idx=PAD_ID)
        self.positions = nn.Embedding(max_length, hidden_size)
        self.layer_norm = nn.LayerNorm(hidden_size, eps=1e-8)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, first_position: int = 0) -> Tensor:
        """Embed ``tokens``, whose first column stands at position ``first_position`` of the caption."""
        positions = torch.arange(first_position, first_position + tokens.shape[1], device=tokens.device)
        embedded = self.dropout(self.layer_norm(self.words(tokens) + self.positions(positions)))
        return embedded * (tokens != PAD_ID).unsqueeze(-1)


class LinearTextualHead(nn.Module):
    """One linear layer on globally average-pooled features.

    Shape:
        feature map ``(batch, feature_size, height, width)`` -> logits ``(batch, vocab_size)``
    """

    def __init__(self, feature_size: int, vocab_size: int) -> None:
        super().__init__()
        self.output = nn.Linear(feature_size, vocab_size)

    def forward(self, visual_features: Tensor) -> Tensor:
        """Return logits of all labels; see the class for shapes."""
        return self.output(visual_features.mean(dim=(2, 3)))


def draw_weights(module: nn.Module, std: float, embedding_std: float) -> None:
    """Draw weights from N(0, std), or of embeddings N(0, embedding_std), the padding word zero.

    Biases keep torch's own start.
    """
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=std)
    if isinstance(module, nn.MultiheadAttention):
        nn.init.normal_(module.in_proj_weight, std=std)
    if isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=embedding_std)
        if module.padding_idx is not None:
            with torch.no_grad():
                module.weight[module.padding_idx].zero_()
