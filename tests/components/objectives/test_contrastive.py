"""The sigmoid loss of open_clip and big_vision; ../shared/BEYOND.md names these facts."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from components.core.caption_tokens import SPECIAL_IDS
from components.models.contrastive_head import ContrastiveHead
from components.models.textual_head import LinearTextualHead
from components.objectives.build import ModelConfig, build_objective
from components.objectives.classification import label_cross_entropy
from components.objectives.contrastive import (
    ContrastiveClassificationObjective,
    ContrastiveObjective,
    pairs_loss,
)
from components.params import TextualHead
from components.training.distributed import Processes
from components.training.metrics import TokenMean

Pairs = dict[str, torch.Tensor]
SIZES = {
    "hidden_size": 16, "num_layers": 1, "attention_heads": None, "feedforward_size": None, "norm": "post",
    "dropout": 0.1, "max_caption_length": 30,
}  # fmt: skip


def sizes(**changes: Any) -> TextualHead:
    return TextualHead.model_validate(SIZES | changes)


@pytest.mark.parametrize(("batch", "expected"), [(16, 10.00073), (256, 10.01162), (512, 10.02324)])
def test_orthogonal_vectors_at_the_start(batch: int, expected: float) -> None:
    head = ContrastiveHead(4, 20, sizes())
    unrelated = head.logits(torch.eye(2 * batch)[:batch], torch.eye(2 * batch)[batch:])
    assert pairs_loss(unrelated).item() == pytest.approx(expected, abs=1e-5)
    assert expected == pytest.approx(
        math.log1p(math.exp(10)) + (batch - 1) * math.log1p(math.exp(-10)), abs=1e-5
    )


def test_a_perfect_pair_costs_ln_2_at_the_start() -> None:
    head = ContrastiveHead(4, 20, sizes())
    vector = torch.nn.functional.normalize(torch.randn(1, 16), dim=1)
    assert pairs_loss(head.logits(vector, vector)).item() == pytest.approx(math.log(2), abs=1e-6)


def test_vectors_have_length_1_and_padding_and_other_rows_do_not_matter() -> None:
    torch.manual_seed(0)
    head = ContrastiveHead(4, 20, sizes(num_layers=2)).eval()
    tokens, lengths = torch.tensor([[1, 9, 8, 2], [1, 9, 2, 0]]), torch.tensor([4, 3])
    found = head.captions(tokens, lengths)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2))
    alone = head.captions(torch.tensor([[1, 9, 2, 0, 0, 0]]), torch.tensor([3]))
    torch.testing.assert_close(found[1:], alone)
    torch.testing.assert_close(head.images(torch.randn(3, 4, 2, 2)).norm(dim=1), torch.ones(3))


def test_the_class_loss_stands_beside_it(make_config: Callable[..., ModelConfig]) -> None:
    torch.manual_seed(0)
    objective = build_objective(make_config("contrastive_classification")).eval()
    assert isinstance(objective, ContrastiveClassificationObjective)
    objective.token_weights.uniform_(0.1, 2.0)
    batch = {
        "image": torch.randn(2, 3, 32, 32),
        "caption_tokens": torch.tensor([[1, 9, 8, 2], [1, 9, 2, 0]]),
        "caption_lengths": torch.tensor([4, 3]),
    }
    found = objective(batch)
    features = objective.visual(batch["image"])
    logits = objective.textual(features, batch["caption_tokens"], batch["caption_lengths"])
    expected, _ = label_cross_entropy(
        objective.classifier(features), batch["caption_tokens"], SPECIAL_IDS, objective.token_weights
    )
    torch.testing.assert_close(found.parts["contrastive"], pairs_loss(logits).detach())
    torch.testing.assert_close(found.parts["classification"], expected.detach())
    torch.testing.assert_close(found.loss, pairs_loss(logits) + expected)
    assert found.num_tokens.item() == 2


class Pixels(nn.Module):
    """A backbone without batch normalisation, which sees each process's images apart."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 2)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.layer(image).tanh()


def small() -> ContrastiveObjective:
    torch.manual_seed(0)
    head = ContrastiveHead(4, 20, sizes(dropout=0.0, init_std=0.3), bias=-2.0)
    objective = ContrastiveClassificationObjective(Pixels(), head, LinearTextualHead(4, 20))
    objective.token_weights.uniform_(0.1, 2.0)
    return objective.double()


def six() -> Pairs:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(4, 20, (6, 5), generator=generator)
    return {
        "image": torch.randn(6, 3, 4, 4, generator=generator, dtype=torch.float64),
        "caption_tokens": tokens * (torch.arange(5) < torch.arange(6).unsqueeze(1).clamp(min=2)),
        "caption_lengths": torch.arange(6).clamp(min=2, max=5),
    }


def one_of_two(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    processes, objective = Processes(rank, 2), small()
    model = processes.wrap_ddp(objective, torch.device("cpu"))
    part = {key: value[3 * rank : 3 * rank + 3] for key, value in six().items()}
    mean = TokenMean(processes, 1)
    mean.add(model(part), 3).backward()
    losses = mean.finish([p.grad for p in objective.parameters() if p.grad is not None])
    gradients = {name: p.grad for name, p in objective.named_parameters()}
    objective.eval()(part)  # validation meets nobody: processes may have batches of several sizes
    torch.save({"losses": losses, "gradients": gradients}, folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_have_the_loss_and_gradients_of_one_batch(tmp_path: Path) -> None:
    mp.spawn(one_of_two, (tmp_path,), nprocs=2)
    objective = small()
    output = objective(six())
    output.loss.backward()
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt")
        for name, value in {"loss": output.loss, **output.parts}.items():
            torch.testing.assert_close(found["losses"][name], value.detach(), rtol=1e-5, atol=1e-9)
        for name, parameter in objective.named_parameters():
            assert parameter.grad is not None
            torch.testing.assert_close(found["gradients"][name], parameter.grad, rtol=1e-5, atol=1e-9)
