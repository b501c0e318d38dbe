import pytest
import torch

from components.objectives.classification import label_cross_entropy


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(3, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


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


def test_label_smoothing_spreads_a_share_over_all_labels(logits: torch.Tensor) -> None:
    labels = torch.tensor([[1, 4, 4, 7, 0], [5, 1, 1, 0, 0], [1, 1, 0, 0, 0]])
    plain, _ = label_cross_entropy(logits, labels, (0, 1))
    found, _ = label_cross_entropy(logits, labels, (0, 1), label_smoothing=0.1)
    everywhere = -logits.log_softmax(dim=1)[:2].mean()  # the last row has no label
    assert found.item() == pytest.approx((0.9 * plain + 0.1 * everywhere).item())
