import pytest
import torch

from components.captioning.captioner import Captioner
from components.core.caption_tokens import EOS_ID
from components.core.errors import InputError


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [0.1, 1.0, 3.0]
    ).view(3, 1, 1, 1)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_likeliest_captions_come_first(captioner: Captioner, images: torch.Tensor) -> None:
    best, several = captioner.search(images), captioner.search(images, num_captions=4)
    assert [len(found) for found in best] == [1, 1, 1]
    assert [len(found) for found in several] == [4, 4, 4]
    for (one,), four in zip(best, several, strict=True):
        assert four[0].tokens == one.tokens
        assert four[0].log_probability == pytest.approx(one.log_probability, rel=1e-5)
        assert sorted((c.log_probability for c in four), reverse=True) == [c.log_probability for c in four]
        assert len({caption.tokens for caption in four}) == 4
    assert len({one.tokens for (one,) in best}) > 1, "the images must differ in their captions"


def test_a_caption_is_its_tokens_in_words(captioner: Captioner, images: torch.Tensor) -> None:
    for caption in captioner.search(images, num_captions=5)[0]:
        assert EOS_ID not in caption.tokens[:-1]
        assert caption.text == captioner.tokenizer.decode(caption.tokens)
        with torch.no_grad():
            features = captioner.objective.visual(images[:1])
            tokens = torch.tensor([[1, *caption.tokens]])
            length = torch.tensor([len(caption.tokens)])
            scores = captioner.objective.textual(features, tokens[:, :-1], length).log_softmax(-1)
        total = scores.gather(2, tokens[:, 1:, None]).sum().item()
        assert caption.log_probability == pytest.approx(total, rel=1e-4)


def test_the_seed_decides_what_is_sampled(captioner: Captioner, images: torch.Tensor) -> None:
    first, again, other = (captioner.sample(images, 0.9, 2, generator(seed)) for seed in (0, 0, 1))
    assert first == again != other
    assert [len(found) for found in first] == [2, 2, 2]
    assert any(one.tokens != two.tokens for one, two in first), "captions of an image are drawn apart"


def test_samples_belong_to_their_images(captioner: Captioner, images: torch.Tensor) -> None:
    """With a tiny nucleus every sample is the greedy caption of its own image."""
    greedy = captioner.sample(images, 1e-9, 3, generator())
    for image, found in zip(images, greedy, strict=True):
        (alone,) = captioner.sample(image.unsqueeze(0), 1e-9, 1, generator())
        assert {caption.tokens for caption in found} == {alone[0].tokens}


def test_a_beam_too_narrow(captioner: Captioner, images: torch.Tensor) -> None:
    with pytest.raises(InputError, match="6 captions per image need a beam of at least 6, not 5"):
        captioner.search(images, beam_size=5, num_captions=6)
