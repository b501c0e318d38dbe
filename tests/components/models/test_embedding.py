import torch

from components.models.textual_head import WordAndPositionEmbedding


def test_padding_is_zero_and_position_counts() -> None:
    torch.manual_seed(0)
    embedding = WordAndPositionEmbedding(10, 8, max_length=5, dropout=0.5).eval()
    embedded = embedding(torch.tensor([[1, 4, 4, 0]]))
    assert embedded.shape == (1, 4, 8)
    assert embedded[0, 3].count_nonzero() == 0
    assert not torch.allclose(embedded[0, 1], embedded[0, 2])


def test_first_position_continues_a_caption() -> None:
    torch.manual_seed(0)
    embedding = WordAndPositionEmbedding(10, 8, max_length=5, dropout=0.0)
    tokens = torch.tensor([[1, 4, 7, 9, 2]])
    torch.testing.assert_close(embedding(tokens[:, 3:], first_position=3), embedding(tokens)[:, 3:])


def test_padding_word_gets_no_gradient() -> None:
    embedding = WordAndPositionEmbedding(10, 8, max_length=5, dropout=0.0)
    (embedding(torch.tensor([[1, 4, 0]])) * torch.arange(8.0)).sum().backward()
    gradient = embedding.words.weight.grad
    assert gradient is not None
    assert gradient[0].count_nonzero() == 0
    assert gradient[4].count_nonzero() > 0
