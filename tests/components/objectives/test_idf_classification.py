import math
from collections.abc import Callable

import pytest
import torch

from components.core.caption_tokens import SPECIAL_IDS
from components.objectives.build import ModelConfig, build_objective
from components.objectives.classification import IdfTokenClassificationObjective, label_cross_entropy

BATCH = {
    "image": torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)),
    "caption_tokens": torch.tensor([[1, 9, 8, 2], [1, 9, 2, 0]]),
}


def built(make_config: Callable[..., ModelConfig], name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_objective(make_config(name)).eval()


def test_constant_weights_are_token_classification(make_config: Callable[..., ModelConfig]) -> None:
    plain, weighted = (built(make_config, n) for n in ("token_classification", "idf_token_classification"))
    assert isinstance(weighted, IdfTokenClassificationObjective)
    expected = plain(BATCH).loss
    for weight in (1.0, 2.0):
        weighted.token_weights.fill_(weight)
        assert torch.equal(weighted(BATCH).loss, expected)


def test_targets_are_the_weights_shares() -> None:
    logits = torch.randn(1, 12, dtype=torch.float64)
    weights = torch.zeros(12, dtype=torch.float64)
    weights[8], weights[9] = math.log(11 / 2), math.log(11 / 6)
    loss, rows = label_cross_entropy(logits, torch.tensor([[1, 9, 8, 9, 7, 2]]), SPECIAL_IDS, weights)
    log_probs = logits.log_softmax(dim=1)[0]
    expected = -(0.73770 * log_probs[8] + 0.26230 * log_probs[9])
    assert loss.item() == pytest.approx(expected.item(), abs=3e-5)
    assert rows.item() == 1


def test_uniform_logits_give_the_logarithm_of_the_vocabulary() -> None:
    weights = torch.rand(12) + 0.1
    loss, _ = label_cross_entropy(torch.zeros(2, 12), BATCH["caption_tokens"], SPECIAL_IDS, weights)
    assert loss.item() == pytest.approx(math.log(12))


def test_weights_of_nothing_cost_nothing() -> None:
    """Neither with them all 0 nor in a row with such tokens alone."""
    logits = torch.randn(2, 12, requires_grad=True)
    nothing, rows = label_cross_entropy(logits, BATCH["caption_tokens"], SPECIAL_IDS, torch.zeros(12), 0.1)
    nothing.backward()
    assert (nothing.item(), rows.item()) == (0.0, 0)
    assert logits.grad is not None
    assert logits.grad.count_nonzero() == 0
    weights = torch.zeros(12)
    weights[8] = 0.01
    loss, rows = label_cross_entropy(logits, BATCH["caption_tokens"], SPECIAL_IDS, weights)
    assert loss.item() == pytest.approx(-logits.log_softmax(dim=1)[0, 8].item())
    assert rows.item() == 1
