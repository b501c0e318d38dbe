"""Two towers for contrastive learning: vectors of images and of captions, and how alike each pair is."""

import functools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from components.models.textual_head import WordAndPositionEmbedding, draw_weights
from components.params import TextualHead

FIRST_SCALE = 10.0  # of similarities (SigLIP, arXiv 2303.15343)


class ContrastiveHead(nn.Module):
    """Projection of the pooled feature map, a transformer encoder of captions, and a scale and a bias.

    A caption's vector is taken at its last token, [EOS] unless the caption
    was cut; every token sees all others. Vectors have length 1.

    Shape:
        visual_features ``(images, feature_size, height, width)``,
        caption_tokens ``(captions, length)`` int64, padded with 0 on the right,
        caption_lengths ``(captions,)`` int64
        -> logits ``(images, captions)``, of the weights' dtype
    """

    def __init__(self, feature_size: int, vocab_size: int, sizes: TextualHead, bias: float = -10.0) -> None:
        """Build the towers in the sizes of a textual head; ``bias`` is that of logits."""
        super().__init__()
        hidden_size, is_pre_norm = sizes.hidden_size, sizes.norm == "pre"
        self.max_caption_length = sizes.max_caption_length
        self.visual_projection = nn.Linear(feature_size, hidden_size)
        self.embedding = WordAndPositionEmbedding(
            vocab_size, hidden_size, sizes.max_caption_length, sizes.dropout
        )
        layer = nn.TransformerEncoderLayer(
            hidden_size,
            sizes.num_heads,
            dim_feedforward=sizes.ffn_size,
            dropout=sizes.dropout,
            activation="gelu",
            batch_first=True,
            norm_first=is_pre_norm,
        )
        last_norm = nn.LayerNorm(hidden_size) if is_pre_norm else None
        self.transformer = nn.TransformerEncoder(
            layer, sizes.num_layers, last_norm, enable_nested_tensor=False
        )
        self.text_projection = nn.Linear(hidden_size, hidden_size)
        self.apply(
            functools.partial(draw_weights, std=sizes.init_std, embedding_std=sizes.embedding_init_std)
        )
        self.log_scale = nn.Parameter(torch.tensor(math.log(FIRST_SCALE)))
        self.bias = nn.Parameter(torch.tensor(bias))

    def forward(self, visual_features: Tensor, caption_tokens: Tensor, caption_lengths: Tensor) -> Tensor:
        """Return the logit of each image and caption belonging together; see the class for shapes."""
        return self.logits(self.images(visual_features), self.captions(caption_tokens, caption_lengths))

    def images(self, visual_features: Tensor) -> Tensor:
        """Return the vectors of images, ``(images, hidden_size)``, of the weights' dtype."""
        return self._normalised(self.visual_projection(visual_features.mean(dim=(2, 3))))

    def captions(self, caption_tokens: Tensor, caption_lengths: Tensor) -> Tensor:
        """Return the vectors of captions, ``(captions, hidden_size)``, of the weights' dtype."""
        positions = torch.arange(caption_tokens.shape[1], device=caption_tokens.device)
        is_padding = positions >= caption_lengths.unsqueeze(1)
        read = self.transformer(self.embedding(caption_tokens), src_key_padding_mask=is_padding)
        last = (caption_lengths - 1).view(-1, 1, 1).expand(-1, 1, read.shape[2])
        return self._normalised(self.text_projection(read.gather(1, last).squeeze(1)))

    def logits(self, images: Tensor, captions: Tensor) -> Tensor:
        """Return the logit of each pair of vectors, ``(images, captions)``, in full precision."""
        with torch.autocast(images.device.type, enabled=False):
            return self.log_scale.exp() * (images @ captions.t()) + self.bias

    def _normalised(self, vectors: Tensor) -> Tensor:
        return F.normalize(vectors.to(self.log_scale.dtype), dim=1)
