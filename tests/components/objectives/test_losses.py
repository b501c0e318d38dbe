import pytest
import torch
from torch.nn import functional as F

from components.objectives.losses import Targets, label_cross_entropy, token_cross_entropies


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(3, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_tokens_are_averaged_without_padding() -> None:
    """The same means and gradients as over all logits with padding left out afterwards."""
    torch.manual_seed(0)
    output = torch.nn.Linear(6, 9, dtype=torch.float64)
    decoded = [torch.randn(2, 5, 6, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    tokens = [
        torch.tensor([[3, 5, 0, 0, 0], [8, 1, 2, 4, 7]]),
        torch.tensor([[1, 0, 0, 0, 0], [0, 6, 0, 2, 0]]),  # an unknown token has id 0 too
    ]
    tensors = [*decoded, *output.parameters()]
    found = token_cross_entropies(output, decoded, [Targets.of(each) for each in tokens])
    expected = [
        F.cross_entropy(output(vectors).flatten(0, 1), each.flatten(), ignore_index=0)
        for vectors, each in zip(decoded, tokens, strict=True)
    ]
    assert [num_tokens.item() for _, num_tokens in found] == [7, 3]
    for (mean, _), other in zip(found, expected, strict=True):
        torch.testing.assert_close(mean, other, rtol=1e-12, atol=0)
    gradients = torch.autograd.grad(sum(mean for mean, _ in found), tensors)
    for gradient, other in zip(gradients, torch.autograd.grad(sum(expected), tensors), strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_padding_alone_costs_nothing(dtype: torch.dtype) -> None:
    output = torch.nn.Linear(6, 9, dtype=dtype)
    decoded = torch.randn(1, 3, 6, dtype=dtype, requires_grad=True)
    nothing = Targets.of(torch.zeros(1, 3, dtype=torch.int64))
    [(loss, num_tokens)] = token_cross_entropies(output, [decoded], [nothing])
    assert (loss.item(), num_tokens.item()) == (0.0, 0)
    loss.backward()
    assert decoded.grad is not None
    assert decoded.grad.count_nonzero() == 0


def test_labels_count_once_and_special_ones_not(logits: torch.Tensor) -> None:
    labels = torch.tensor([[1, 4, 4, 7, 0], [5, 1, 1, 0, 0], [1, 1, 0, 0, 0]])
    loss, num_rows = label_cross_entropy(logits, labels, (0, 1))
    log_probs = logits.log_softmax(dim=1)
    expected = -((log_probs[0, 4] + log_probs[0, 7]) / 2 + log_probs[1, 5]) / 2
    assert num_rows.item() == 2, "the last row has no label"
    assert loss.item() == pytest.approx(expected.item())


def test_no_labels_at_all(logits: torch.Tensor) -> None:
    loss, num_rows = label_cross_entropy(logits, torch.zeros(3, 1, dtype=torch.int64), (0,))
    assert (loss.item(), num_rows.item()) == (0.0, 0)
