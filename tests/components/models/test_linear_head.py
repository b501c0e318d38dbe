import torch

from components.models.textual_head import LinearTextualHead


def test_logits_are_linear_in_the_mean_feature() -> None:
    torch.manual_seed(0)
    head = LinearTextualHead(8, 5)
    features = torch.randn(3, 8, 2, 4)
    expected = features.mean(dim=(2, 3)) @ head.output.weight.T + head.output.bias
    torch.testing.assert_close(head(features), expected)
    assert list(head.state_dict()) == ["output.weight", "output.bias"]
