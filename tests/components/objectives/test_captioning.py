from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F

from components.models.backbones import TorchvisionBackbone
from components.models.textual_head import TransformerTextualHead
from components.objectives.build import ModelConfig, build_objective
from components.objectives.captioning import (
    BicaptioningObjective,
    CaptioningObjective,
    MaskedLMObjective,
    Targets,
    token_cross_entropies,
)

ConfigMaker = Callable[..., ModelConfig]


@pytest.fixture(params=["captioning", "bicaptioning"])
def captioner(request: pytest.FixtureRequest, make_config: ConfigMaker) -> CaptioningObjective:
    torch.manual_seed(0)
    objective = build_objective(make_config(request.param, max_caption_length=8)).eval()
    assert isinstance(objective, CaptioningObjective)
    return objective


def batch(length: int) -> dict[str, torch.Tensor]:
    tokens = torch.tensor([[1, 9, 8, 2], [1, 9, 2, 0]])
    reversed_tokens = torch.tensor([[2, 8, 9, 1], [2, 9, 1, 0]])
    widen = (0, length - 4)
    return {
        "image": torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)),
        "caption_tokens": torch.nn.functional.pad(tokens, widen),
        "noitpac_tokens": torch.nn.functional.pad(reversed_tokens, widen),
        "caption_lengths": torch.tensor([4, 3]),
    }


def test_loss_counts_tokens_and_sums_its_parts(captioner: CaptioningObjective) -> None:
    output = captioner(batch(4))
    assert output.num_tokens.item() == 5
    assert output.loss.item() == pytest.approx(sum(part.item() for part in output.parts.values()))


def test_wider_padding_does_not_change_the_loss(captioner: CaptioningObjective) -> None:
    assert captioner(batch(8)).loss.item() == pytest.approx(captioner(batch(4)).loss.item(), rel=1e-6)


def test_one_step_keeps_the_heads_tied(make_config: ConfigMaker) -> None:
    torch.manual_seed(0)
    objective = build_objective(make_config("bicaptioning"))
    assert isinstance(objective, BicaptioningObjective)
    batch = {
        "image": torch.randn(2, 3, 32, 32),
        "caption_tokens": torch.tensor([[1, 9, 8, 2], [1, 9, 2, 0]]),
        "noitpac_tokens": torch.tensor([[2, 8, 9, 1], [2, 9, 1, 0]]),
        "caption_lengths": torch.tensor([4, 3]),
    }
    objective(batch).loss.backward()
    torch.optim.SGD(objective.parameters(), lr=0.1).step()
    state = objective.state_dict()
    words = state["textual.embedding.words.weight"]
    for name in (
        "textual.output.weight",
        "backward_textual.output.weight",
        "backward_textual.embedding.words.weight",
    ):
        assert state[name].data_ptr() == words.data_ptr()
    forward, backward = (
        state[f"{head}.transformer.layers.0.self_attn.in_proj_weight"]
        for head in ("textual", "backward_textual")
    )
    assert not torch.equal(forward, backward)


def test_causal_heads_are_refused() -> None:
    with pytest.raises(ValueError, match="causal=False"):
        MaskedLMObjective(TorchvisionBackbone("resnet18"), TransformerTextualHead(512, 30, 16))


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
    for mean, other in zip(found, expected, strict=True):
        torch.testing.assert_close(mean, other, rtol=1e-12, atol=0)
    gradients = torch.autograd.grad(sum(found), tensors)
    for gradient, other in zip(gradients, torch.autograd.grad(sum(expected), tensors), strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_padding_alone_costs_nothing(dtype: torch.dtype) -> None:
    output = torch.nn.Linear(6, 9, dtype=dtype)
    decoded = torch.randn(1, 3, 6, dtype=dtype, requires_grad=True)
    nothing = Targets.of(torch.zeros(1, 3, dtype=torch.int64))
    [loss] = token_cross_entropies(output, [decoded], [nothing])
    assert loss.item() == 0.0
    loss.backward()
    assert decoded.grad is not None
    assert decoded.grad.count_nonzero() == 0


def test_label_smoothing_is_of_training_alone(captioner: CaptioningObjective) -> None:
    """With e it is (1 - e) of the plain loss and e of the mean over all tokens' losses, per direction."""
    given = batch(4)
    plain = captioner(given)
    captioner.label_smoothing = 0.25
    assert captioner(given).loss == plain.loss
    captioner.train()
    for module in captioner.modules():
        if isinstance(module, torch.nn.Dropout):
            module.eval()
    captioner.visual.eval()
    with torch.no_grad():
        captioner.textual.output.weight.zero_()  # with the embedding: all logits are the output's biases
        captioner.textual.output.bias.copy_(torch.arange(120.0) / 50)
    losses = -captioner.textual.output.bias.log_softmax(0)
    expected = 0.75 * losses[[9, 8, 2, 9, 2]].mean() + 0.25 * losses.mean()
    found = captioner(given).parts["captioning_forward"]
    torch.testing.assert_close(found, expected.detach())
