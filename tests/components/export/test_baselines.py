import pytest
import torch

from components import params
from components.export.baselines import BASELINES

RESNET18 = params.Backbone(name="resnet18", zero_init_residual=False)


def test_random_depends_on_its_seed_alone() -> None:
    torch.manual_seed(5)
    expected_next = torch.rand(3)
    torch.manual_seed(5)
    first = BASELINES["random"](params.Baseline(seed=1), RESNET18)
    assert torch.equal(torch.rand(3), expected_next)
    torch.manual_seed(6)
    again = BASELINES["random"](params.Baseline(seed=1), RESNET18)
    other = BASELINES["random"](params.Baseline(seed=2), RESNET18)
    assert torch.equal(first.conv1.weight, again.conv1.weight)
    assert not torch.equal(first.conv1.weight, other.conv1.weight)


@pytest.mark.parametrize(("zero", "weight"), [(True, 0.0), (False, 1.0)])
def test_random_starts_residual_branches_as_pretraining_does(zero: bool, weight: float) -> None:
    section = params.Backbone(name="resnet18", zero_init_residual=zero)
    cnn = BASELINES["random"](params.Baseline(seed=0), section)
    assert (cnn.layer4[1].bn2.weight == weight).all()
