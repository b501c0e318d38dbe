from collections.abc import Callable

import torch

from components.objectives.bicaptioning import BicaptioningObjective
from components.objectives.build import ModelConfig, build_objective


def test_one_step_keeps_the_heads_tied(make_config: Callable[..., ModelConfig]) -> None:
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
