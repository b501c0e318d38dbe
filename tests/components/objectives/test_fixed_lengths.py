"""Captions padded to fixed lengths and batches prepared on the host give every objective the same losses."""

from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

from components.data.batch import collate_targets
from components.data.targets import make_targets
from components.objectives.build import build_objective
from components.params import Objective

OBJECTIVES = get_args(Objective.model_fields["name"].annotation)
VOCAB_SIZE, LONGEST = 120, 30


class Words:
    """A tokenizer of numbers."""

    vocab_size = VOCAB_SIZE

    def caption_tokens(self, text: str, max_length: int) -> list[int]:
        return [1, *map(int, text.split()), 2][:max_length]


def batch_of(name: str, longest: int, lengths: list[int] | None) -> dict:
    """Eight images with captions of up to ``longest`` tokens, the same whatever the padding."""
    rng = np.random.default_rng(longest)
    targets = make_targets(name, Words(), LONGEST, parallel_share=0.5)
    samples = []
    for index in range(8):
        size = longest - 2 if index == 3 else int(rng.integers(3, longest - 1))
        caption = " ".join(map(str, rng.integers(4, VOCAB_SIZE, size)))
        made = targets(caption, [1 + index, 1 + index // 2], rng)
        image = torch.from_numpy(rng.standard_normal((3, 32, 32)))
        samples.append({"image": image, "image_id": f"{index}", "targets": made})
    return collate_targets(samples, None if name == "multilabel_classification" else lengths)


def losses_and_gradients(objective, batch: dict) -> tuple[dict, list]:
    objective.zero_grad()
    output = objective(batch)
    output.loss.backward()
    gradients = [value.grad for value in objective.parameters() if value.grad is not None]
    return {"loss": output.loss, "tokens": output.num_tokens, **output.parts}, gradients


@pytest.fixture(params=OBJECTIVES, scope="module")
def objective(request: pytest.FixtureRequest, make_config):
    torch.manual_seed(0)
    objective = build_objective(make_config(request.param, dropout=0.0))
    objective.visual = nn.Conv2d(3, 512, kernel_size=16, stride=16)  # a ResNet takes seconds
    return objective.double().train()


@pytest.fixture
def name(objective, request: pytest.FixtureRequest) -> str:
    return request.node.callspec.params["objective"]


@pytest.mark.parametrize("longest", [9, 19])
def test_padding_to_fixed_lengths_changes_no_bit_of_a_loss(objective, name: str, longest: int) -> None:
    usual, fixed = (batch_of(name, longest, lengths) for lengths in (None, [12, 16, 22, LONGEST]))
    lengths = {key: value.shape[1] for key, value in fixed.items() if key.endswith("tokens")}
    assert set(lengths.values()) <= {{9: 12, 19: 22}[longest]}
    expected, gradients = losses_and_gradients(objective, usual)
    found, others = losses_and_gradients(objective, fixed)
    for part, value in expected.items():
        assert torch.equal(found[part], value), part
    for gradient, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(other, gradient, rtol=1e-11, atol=1e-13)


def test_a_batch_prepared_on_the_host_gives_the_same(objective, name: str) -> None:
    batch = batch_of(name, 12, None)
    expected, gradients = losses_and_gradients(objective, batch)
    found, others = losses_and_gradients(objective, objective.prepared(batch))
    assert all(torch.equal(found[part], value) for part, value in expected.items())
    assert all(map(torch.equal, gradients, others))
