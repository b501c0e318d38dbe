from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from components.core.errors import InputError
from components.data.normalisation import normalised
from components.objectives.interface import Objective, ObjectiveOutput
from components.training.validation import to_device, validate

CPU = torch.device("cpu")


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_pixels_become_images_and_images_stay(memory_format: torch.memory_format) -> None:
    pixels = torch.randint(
        0, 256, (2, 6, 5, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    moved = to_device({"image": pixels, "image_id": ["a", "b"]}, CPU, memory_format)
    again = to_device(moved, CPU, memory_format)
    assert set(moved) == {"image"}
    assert moved["image"].is_contiguous(memory_format=memory_format)
    assert torch.equal(moved["image"], normalised(pixels))
    assert torch.equal(again["image"], moved["image"])


class MeanObjective(Objective):
    """Its parts are the means of two rows of numbers; dropout shows the mode it runs in."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = nn.BatchNorm2d(1)
        self.dropout = nn.Dropout(0.5)

    def forward(self, batch: Mapping[str, Tensor]) -> ObjectiveOutput:
        forward = self.dropout(batch["forward"]).mean()
        backward = batch["backward"].mean() + 0 * self.visual(batch["image"]).sum()
        parts = {"forward": forward, "backward": backward}
        return ObjectiveOutput(forward + backward, parts, torch.tensor(batch["forward"].numel()))


def _batch(*numbers: float) -> dict[str, Tensor]:
    forward = torch.tensor(numbers)
    return {"forward": forward, "backward": 10 * forward, "image": torch.ones(2, 1, 2, 2)}


def test_every_token_counts_the_same() -> None:
    batches = [_batch(1.0), _batch(2.0, 3.0, 4.0, 5.0), _batch(9.0, 9.0)]
    losses = validate(MeanObjective(), batches, torch.device("cpu"))
    mean = (1 + 2 + 3 + 4 + 5 + 9 + 9) / 7
    assert losses == pytest.approx({"loss": 11 * mean, "forward": mean, "backward": 10 * mean})


def test_leaves_modes_statistics_and_random_numbers_alone() -> None:
    objective = MeanObjective().train()
    objective.dropout.eval()
    before = torch.get_rng_state()

    def batches():
        torch.rand(3)
        yield _batch(1.0)
        assert not objective.training
        raise ValueError("stop here")

    with pytest.raises(ValueError, match="stop here"):
        validate(objective, batches(), torch.device("cpu"))
    assert objective.training
    assert objective.visual.training
    assert not objective.dropout.training
    assert objective.visual.num_batches_tracked == 0
    assert torch.equal(torch.get_rng_state(), before)


def test_an_empty_validation_set_is_refused() -> None:
    with pytest.raises(InputError, match="validation set is empty"):
        validate(MeanObjective(), [], torch.device("cpu"))
