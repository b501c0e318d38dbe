import torch

from components.captioning.attention import seen_words
from components.captioning.captioner import Caption, Captioner
from components.core.caption_tokens import EOS_ID


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
