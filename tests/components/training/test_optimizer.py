import json
from pathlib import Path

import pytest
import torch
from torch import nn

from components import params
from components.training.lookahead import Lookahead
from components.training.optimizer import build_optimizer, learning_rates, parameter_groups


class Named(nn.Module):
    """A module whose parameters have given dotted names."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        for name in names:
            *parents, leaf = name.split(".")
            module: nn.Module = self
            for parent in parents:
                if parent not in module._modules:
                    module.add_module(parent, nn.Module())
                module = module._modules[parent]
            module.register_parameter(leaf, nn.Parameter(torch.zeros(1)))


def test_groups_of_the_reference(shared_dir: Path, optimizer_params: params.Optimizer) -> None:
    golden = json.loads((shared_dir / "golden" / "param_groups.json").read_text())
    rows = golden["_base_bicaptioning_R_50_L1_H1024"]["rows"]
    module = Named([name for name, _, _ in rows])
    optimizer = build_optimizer(module, optimizer_params)
    by_name = {
        name: (name, group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for name in group["param_names"]
    }
    assert len(rows) == 202
    assert [list(by_name[name]) for name, _, _ in rows] == rows
    assert len(optimizer.param_groups) == 3
    for group in optimizer.param_groups:
        values = [group["lr"], group["weight_decay"]]
        assert group["param_names"] == [name for name, *row_values in rows if row_values == values]
    assert optimizer.param_groups[0]["momentum"] == 0.9
    assert not optimizer.param_groups[0]["nesterov"]


def test_tied_parameters_count_once_and_frozen_ones_not(optimizer_params: params.Optimizer) -> None:
    module = Named(["visual.conv.weight", "textual.embedding.words.weight", "textual.output.weight"])
    module.textual.output.weight = module.textual.embedding.words.weight
    module.visual.conv.weight.requires_grad = False
    names = [name for group in parameter_groups(module, optimizer_params) for name, _ in group["params"]]
    assert names == ["textual.embedding.words.weight"]


@pytest.mark.parametrize(("steps", "kind"), [(5, Lookahead), (0, torch.optim.SGD)])
def test_lookahead_can_be_off(optimizer_params: params.Optimizer, steps: int, kind: type) -> None:
    module = Named(["visual.conv.weight", "textual.output.weight"])
    optimizer = build_optimizer(module, optimizer_params.model_copy(update={"lookahead_steps": steps}))
    assert type(optimizer) is kind
    assert learning_rates(optimizer) == {"backbone": 0.2, "head": 0.001}
