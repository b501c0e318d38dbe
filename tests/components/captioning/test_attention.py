from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from components.captioning.attention import (
    SeenWord,
    cross_attention,
    draw_attention,
    seen_words,
    token_attention,
)
from components.captioning.captioner import Caption, Captioner
from components.core.caption_tokens import EOS_ID
from components.models.decoding import BeamCache
from components.models.textual_head import TransformerTextualHead

HeadMaker = Callable[..., TransformerTextualHead]
BATCH, LENGTH, HEIGHT, WIDTH = 3, 5, 2, 3
GRAY = torch.zeros(3, 32, 32)  # the ImageNet mean


@pytest.fixture
def visual_features() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(BATCH, 8, HEIGHT, WIDTH, dtype=torch.float64, generator=generator)


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(4, 30, (BATCH, LENGTH), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_attention_is_what_decoding_computes_with(
    make_head: HeadMaker,
    visual_features: torch.Tensor,
    tokens: torch.Tensor,
    norm: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The maps are those of the last layer's queries and keys in the search's own arithmetic."""
    head = make_head(norm=norm)
    maps = cross_attention(head, visual_features, tokens)
    assert maps.shape == (BATCH, LENGTH, HEIGHT, WIDTH)
    torch.testing.assert_close(maps.sum(dim=(2, 3)), torch.ones(BATCH, LENGTH, dtype=torch.float64))

    looked: list[torch.Tensor] = []  # of every call over the image: (batch, positions)
    attend = F.scaled_dot_product_attention

    def recording(
        query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attn_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        if key.shape[2] == HEIGHT * WIDTH and key.shape[0] == BATCH:
            weights = (query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5).softmax(dim=-1)
            looked.append(weights.mean(dim=1).squeeze(1))
        return attend(query, key, value, attn_mask)

    monkeypatch.setattr(F, "scaled_dot_product_attention", recording)
    cache = BeamCache(head, visual_features)
    for previous in [torch.ones(BATCH, dtype=torch.int64), *tokens[:, :-1].T]:
        cache.step(previous.unsqueeze(1))
    last_layer = torch.stack(looked[1::2], dim=1)  # two layers
    torch.testing.assert_close(maps.flatten(2), last_layer[:, :LENGTH], rtol=1e-9, atol=1e-9)


def test_what_follows_the_end_changes_nothing(
    make_head: HeadMaker, visual_features: torch.Tensor, tokens: torch.Tensor
) -> None:
    head = make_head()
    padded = torch.cat([tokens, torch.full((BATCH, 2), EOS_ID)], dim=1)
    maps = cross_attention(head, visual_features, padded)[:, :LENGTH]
    torch.testing.assert_close(maps, cross_attention(head, visual_features, tokens))


def test_the_head_is_as_before(
    make_head: HeadMaker, visual_features: torch.Tensor, tokens: torch.Tensor
) -> None:
    head = make_head()
    lengths = torch.full((BATCH,), LENGTH)
    before = head(visual_features, tokens, lengths)
    cross_attention(head, visual_features, tokens)
    with pytest.raises(RuntimeError):
        cross_attention(head, visual_features[:, :5], tokens)  # fails inside the head
    attention = head.transformer.layers[-1].multihead_attn
    assert not attention._forward_hooks
    assert not attention._forward_pre_hooks
    assert torch.equal(head(visual_features, tokens, lengths), before)


def test_attention_has_a_map_for_each_token(captioner: Captioner) -> None:
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    captions = [found[0] for found in captioner.search(images)]
    maps = token_attention(captioner, images, captions)
    for image, caption, row in zip(images, captions, maps, strict=True):
        assert row.shape == (len(caption.tokens), 2, 2)
        torch.testing.assert_close(row.sum(dim=(1, 2)), torch.ones(len(row)))
        (alone,) = token_attention(captioner, image.unsqueeze(0), [caption])
        torch.testing.assert_close(row, alone, rtol=1e-4, atol=1e-5)


def test_a_word_sees_the_mean_of_its_pieces(captioner: Captioner) -> None:
    tokenizer = captioner.tokenizer
    text = "a red rectangle"
    tokens = (*tokenizer.encode(text), EOS_ID)
    attention = torch.rand(len(tokens), 2, 3, generator=torch.Generator().manual_seed(0))
    words = seen_words(Caption(text, -1.0, tokens), attention, tokenizer)
    assert [word.text for word in words] == ["a", "red", "rectangle"]
    pieces = [len(tokenizer.encode(word.text)) for word in words]
    assert pieces[2] > 1
    assert torch.equal(words[0].attention, attention[0])
    torch.testing.assert_close(words[2].attention, attention[-1 - pieces[2] : -1].mean(dim=0))


def test_a_caption_without_words(captioner: Captioner) -> None:
    assert seen_words(Caption("", -1.0, (EOS_ID,)), torch.ones(1, 2, 2), captioner.tokenizer) == []


def test_a_caption_that_was_cut_has_all_its_words(captioner: Captioner) -> None:
    tokens = tuple(captioner.tokenizer.encode("a red star"))
    words = seen_words(
        Caption("a red star", -1.0, tokens), torch.ones(len(tokens), 1, 1), captioner.tokenizer
    )
    assert [word.text for word in words] == ["a", "red", "star"]


def spot(row: int, column: int) -> torch.Tensor:
    attention = torch.full((4, 4), 0.01)
    attention[row, column] = 1 - attention.sum() + 0.01
    return attention


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def test_places_that_were_looked_at_are_brighter(tmp_path: Path) -> None:
    caption = Caption("x", -1.5, (4, 2))
    for name, attention in (("left", spot(1, 0)), ("right", spot(1, 3))):
        draw_attention(tmp_path / name, GRAY, caption, [SeenWord("x", attention)])
    difference = (pixels(tmp_path / "left") - pixels(tmp_path / "right")).sum(axis=2)
    columns = np.flatnonzero(np.abs(difference).sum(axis=0))
    middle = (columns.min() + columns.max()) // 2
    assert difference[:, columns.min() : middle].sum() > 0 > difference[:, middle : columns.max()].sum()


def test_a_model_that_looks_nowhere_in_particular_is_shown_as_such(tmp_path: Path) -> None:
    even = torch.full((4, 4), 1 / 16)
    for name, attention in (("even", even), ("nearly", even + 1e-4 * torch.eye(4))):
        draw_attention(tmp_path / name, GRAY, Caption("x", -1.5, (4, 2)), [SeenWord("x", attention)])
    assert np.abs(pixels(tmp_path / "even") - pixels(tmp_path / "nearly")).max() < 8


@pytest.mark.parametrize("num_words", [0, 1, 5, 6, 13])
def test_any_number_of_words(tmp_path: Path, num_words: int) -> None:
    words = [SeenWord(r"$\frac$", spot(0, 0))] * num_words
    draw_attention(tmp_path / "p.png", GRAY, Caption(r"$\frac$ " * 20, -1.0, (4,)), words)
    assert pixels(tmp_path / "p.png").std() > 0
