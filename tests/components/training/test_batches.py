import pytest
import torch

from components.core.normalisation import normalised
from components.training.batches import to_device

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
