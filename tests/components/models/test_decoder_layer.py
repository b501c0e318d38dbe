import pytest
import torch
from torch import nn

from components.models.decoder_layer import DecoderLayer


@pytest.mark.parametrize("norm_first", [False, True])
def test_training_equals_torchs_own_block_bit_for_bit(norm_first: bool) -> None:
    """Outputs and gradients, dropout and both masks included; the initial weights too."""
    results = []
    for kind in (nn.TransformerDecoderLayer, DecoderLayer):
        torch.manual_seed(0)
        layer = kind(16, 2, 32, 0.3, "gelu", batch_first=True, norm_first=norm_first).train()
        tokens = torch.randn(3, 5, 16, requires_grad=True)
        memory = torch.randn(3, 4, 16, requires_grad=True)
        is_future = torch.ones(5, 5, dtype=torch.bool).triu(1)
        is_padding = torch.arange(5) >= torch.tensor([[5], [3], [1]])
        output = layer(tokens, memory, tgt_mask=is_future, tgt_key_padding_mask=is_padding)
        output.square().sum().backward()
        results.append([output, tokens.grad, memory.grad, *(p.grad for p in layer.parameters())])
    for theirs, ours in zip(*results, strict=True):
        assert torch.equal(theirs, ours)
