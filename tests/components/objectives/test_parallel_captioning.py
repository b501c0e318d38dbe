"""What big_vision's CapPa does; ../shared/BEYOND.md names these facts."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from components.core.caption_tokens import MASK_ID
from components.objectives.build import ModelConfig, build_objective

Pairs = dict[str, torch.Tensor]
NAMES = ["parallel_captioning", "parallel_bicaptioning"]


@pytest.fixture
def batch() -> Pairs:
    """Three images with captions of 4, 3 and 3 tokens."""
    return {
        "image": torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1)),
        "caption_tokens": torch.tensor([[1, 9, 8, 2], [1, 9, 2, 0], [1, 7, 2, 0]]),
        "noitpac_tokens": torch.tensor([[2, 8, 9, 1], [2, 9, 1, 0], [2, 7, 1, 0]]),
        "caption_lengths": torch.tensor([4, 3, 3]),
        "parallel": torch.tensor([1, 0, 1]),
    }


@pytest.fixture(params=NAMES)
def build(request: pytest.FixtureRequest, make_config: Callable[..., ModelConfig]) -> Callable[..., Any]:
    def built(plain: bool = False) -> Any:
        torch.manual_seed(0)
        name = request.param.removeprefix("parallel_") if plain else request.param
        return build_objective(make_config(name, max_caption_length=8)).eval()

    return built


def gradients(objective: torch.nn.Module, batch: Pairs) -> tuple[torch.Tensor, list[torch.Tensor]]:
    loss = objective(batch).loss
    return loss, list(torch.autograd.grad(loss, list(objective.parameters())))


def test_without_parallel_images_it_is_captioning_bit_for_bit(
    build: Callable[..., Any], batch: Pairs
) -> None:
    objective = build()
    loss, grads = gradients(objective, batch | {"parallel": torch.zeros(3, dtype=torch.int64)})
    expected, others = gradients(build(plain=True), batch)
    assert torch.equal(loss, expected)
    for one, other in zip(grads, others, strict=True):
        if hasattr(objective, "backward_textual"):  # what three readings share is summed in another order
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)
        else:
            assert torch.equal(one, other)


def test_parallel_images_are_told_nothing_of_their_captions(build: Callable[..., Any], batch: Pairs) -> None:
    objective = build()
    batch["parallel"][:] = 1
    longer = {**batch, "caption_tokens": torch.tensor([[1, 5, 2, 0, 0], [1, 6, 6, 6, 2], [1, 2, 0, 0, 0]])}
    reading, other = (objective.readings(objective.prepared(each))[-1] for each in (batch, longer))
    assert torch.equal(reading.shown, other.shown)
    assert torch.equal(reading.shown, torch.full((3, 7), MASK_ID))
    assert reading.lengths is None
    assert reading.expected[0].tolist() == [9, 8, 2, 0, 0, 0, 0]  # as captioning, target i at position i


def test_every_parallel_position_sees_every_other(build: Callable[..., Any], batch: Pairs) -> None:
    """Also those after it and behind the caption's end: a change at the last position reaches the first."""
    textual = build().textual
    memory = textual.project(torch.randn(1, 512, 2, 2))
    tokens = torch.full((1, 7), MASK_ID)
    changed = tokens.clone()
    changed[0, -1] = 9
    first, other = (textual.decode(memory, each, None)[0, 0] for each in (tokens, changed))
    assert not torch.allclose(first, other)


def test_the_loss_is_the_mean_over_all_tokens(build: Callable[..., Any], batch: Pairs) -> None:
    objective = build()
    whole = objective(batch)
    kinds = [objective({key: value[rows] for key, value in batch.items()}) for rows in ([0, 2], [1])]
    assert whole.num_tokens.item() == 7
    expected = sum(kind.loss * kind.num_tokens for kind in kinds) / 7
    torch.testing.assert_close(whole.loss, expected)
    assert whole.loss.item() == pytest.approx(sum(part.item() for part in whole.parts.values()))
    assert set(kinds[0].parts) == set(whole.parts)


@pytest.mark.parametrize("parallel", [0, 1])
def test_one_kind_alone_gives_every_parameter_a_gradient(
    build: Callable[..., Any], batch: Pairs, parallel: int
) -> None:
    """Or processes would wait for each other's gradients in vain."""
    objective = build().train()
    objective(batch | {"parallel": torch.full((3,), parallel)}).loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in objective.parameters())


def test_a_separate_output_layer_of_zeros_starts_at_the_logarithm_of_the_vocabulary(
    build: Callable[..., Any], batch: Pairs
) -> None:
    objective = build()
    objective.textual.output = torch.nn.Linear(64, 120)
    torch.nn.init.zeros_(objective.textual.output.weight)
    torch.nn.init.zeros_(objective.textual.output.bias)
    parallel = batch | {"parallel": torch.ones(3, dtype=torch.int64)}
    assert objective(parallel).loss.item() == pytest.approx(math.log(120))
