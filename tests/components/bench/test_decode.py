import torch

from components.bench.decode import QUICK, prefix_beam_search, run
from components.models.decoding import beam_search
from components.models.textual_head import TransformerTextualHead


def test_both_sides_search_alike() -> None:
    torch.manual_seed(0)
    head = TransformerTextualHead(8, 40, 32, num_layers=2, max_caption_length=8).eval()
    head.requires_grad_(False).output.bias[2] = -100.0
    features = torch.randn(3, 8, 2, 2)
    plain, ours = prefix_beam_search(head, features, 4, 8), beam_search(head, features, 4, 8)
    assert torch.equal(plain.tokens, ours.tokens)
    torch.testing.assert_close(plain.log_probs, ours.log_probs)


def test_quick_run() -> None:
    (row,) = run(QUICK, rounds=1)
    assert row.figures["same captions"] == f"{QUICK.batch} of {QUICK.batch}"
    assert row.units == QUICK.batch
