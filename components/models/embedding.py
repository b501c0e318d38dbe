"""Caption tokens to vectors: word plus learned position."""

import torch
from torch import Tensor, nn

from components.models.special_ids import PAD_ID


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
