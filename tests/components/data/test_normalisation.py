import numpy as np
import pytest
import torch

from components.data.normalisation import IMAGENET_MEAN, IMAGENET_STD, normalised, unnormalised

EVERY_VALUE = torch.arange(256, dtype=torch.uint8).repeat(6).reshape(2, 16, 16, 3)
FORMATS = [torch.contiguous_format, torch.channels_last]


@pytest.mark.parametrize("memory_format", FORMATS)
def test_tables_hold_what_arithmetic_gives_bit_by_bit(memory_format: torch.memory_format) -> None:
    mean, std = (255 * torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    expected = (EVERY_VALUE.permute(0, 3, 1, 2).float() - mean) * (1 / std)
    found = normalised(EVERY_VALUE, memory_format)
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=memory_format)
    assert torch.equal(found, expected)


@pytest.mark.gpu
@pytest.mark.parametrize("memory_format", FORMATS)
def test_a_gpu_gives_the_same_bits(memory_format: torch.memory_format) -> None:
    found = normalised(EVERY_VALUE.cuda(), memory_format)
    assert found.is_contiguous(memory_format=memory_format)
    assert torch.equal(found.cpu(), normalised(EVERY_VALUE))


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("shape", [(0, 4, 4, 3), (1, 1, 1, 3), (3, 5, 2, 3)])
def test_any_shape(shape: tuple[int, ...], memory_format: torch.memory_format) -> None:
    batch, height, width, _ = shape
    pixels = torch.zeros(shape, dtype=torch.uint8)
    assert normalised(pixels, memory_format).shape == (batch, 3, height, width)


def test_pixels_come_back() -> None:
    for pixels, image in zip(EVERY_VALUE, normalised(EVERY_VALUE), strict=True):
        np.testing.assert_array_equal(unnormalised(image), pixels)


@pytest.mark.parametrize("memory_format", FORMATS)
def test_memory_is_used_again_but_never_while_someone_has_it(memory_format: torch.memory_format) -> None:
    pixels = [torch.full((2, 5, 7, 3), value, dtype=torch.uint8) for value in (0, 90, 255)]
    alone = [normalised(one, memory_format).clone() for one in pixels]
    held = [normalised(one, memory_format) for one in pixels]
    part = held[0][1:, :, 2]
    place = held[0].data_ptr()
    del held[0]
    others = [normalised(pixels[2], memory_format) for _ in range(4)]
    assert place not in [other.data_ptr() for other in others]  # a part of it is still in use
    torch.testing.assert_close(part, alone[0][1:, :, 2], rtol=0, atol=0)
    for result, expected in zip(held, alone[1:], strict=True):
        torch.testing.assert_close(result, expected, rtol=0, atol=0)
    del part
    assert normalised(pixels[1], memory_format).data_ptr() == place
