import math

import pytest
import torch

from components.training.averages import Averages


def _values(loss: float, norm: float) -> dict[str, torch.Tensor]:
    return {"loss": torch.tensor(loss, requires_grad=True), "grad_norm": torch.tensor([norm])}


def test_means_start_afresh_after_each_reading() -> None:
    averages = Averages()
    averages.add(_values(1.0, 4.0))
    averages.add(_values(2.0, 6.0))
    assert averages.read() == {"loss": 1.5, "grad_norm": 5.0}
    assert averages.read() == {}
    averages.add(_values(7.0, 1.0))
    assert averages.read() == {"loss": 7.0, "grad_norm": 1.0}


def test_skipped_steps_do_not_spoil_the_gradient_norm() -> None:
    averages = Averages()
    averages.add(_values(1.0, math.inf))
    averages.add(_values(2.0, 6.0))
    assert averages.read() == {"loss": 1.5, "grad_norm": 6.0}
    averages.add(_values(1.0, math.nan))
    assert averages.read() == {"loss": 1.0}


def test_goes_on_from_a_saved_state() -> None:
    averages, resumed = Averages(), Averages()
    averages.add(_values(1.0, 4.0))
    resumed.load_state_dict(averages.state_dict(), torch.device("cpu"))
    resumed.add(_values(2.0, 6.0))
    assert resumed.read() == {"loss": 1.5, "grad_norm": 5.0}


def test_names_must_stay_the_same() -> None:
    averages = Averages()
    averages.add(_values(1.0, 4.0))
    with pytest.raises(ValueError, match="grad_norm"):
        averages.add({"loss": torch.tensor(1.0)})
