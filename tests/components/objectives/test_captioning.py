from collections.abc import Callable

import pytest
import torch

from components.models.decoding import beam_search
from components.objectives.build import ModelConfig, build_objective
from components.objectives.captioning import CaptioningObjective

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


def test_captions_come_from_the_forward_head(captioner: CaptioningObjective) -> None:
    images = batch(4)["image"]
    found = captioner.caption(images, beam_size=3, max_steps=5)
    with torch.no_grad():
        expected = beam_search(captioner.textual, captioner.visual(images), beam_size=3, max_steps=5)
    assert torch.equal(found.tokens, expected.tokens)
    assert found.tokens.shape[0] == found.log_probs.shape[0] == 2
    assert found.tokens.shape[1] <= 5


def test_sampled_captions_follow_the_generator(captioner: CaptioningObjective) -> None:
    images = batch(4)["image"]
    first, again = (
        captioner.sample_caption(images, generator=torch.Generator().manual_seed(3)) for _ in range(2)
    )
    assert torch.equal(first.tokens, again.tokens)
