"""Numbers that are no bytes, transparency, and rare TIFFs."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from components.data.any_format import eight_bits
from components.data.image import DecodeError, decode

RAMP = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)


def saved(values: np.ndarray, file_format: str, mode: str | None = None) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values, mode).save(buffer, file_format)
    return buffer.getvalue()


def gray_of(data: bytes) -> np.ndarray:
    pixels = decode(data)
    assert pixels.shape == (8, 8, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0].astype(int)


def pgm(values: np.ndarray, white: int) -> bytes:
    return b"P5 8 8 %d\n" % white + values.astype(">u2").tobytes()


@pytest.mark.parametrize("white", [511, 1023, 4095, 65535])
@pytest.mark.parametrize("brightest", [1.0, 0.02])
def test_a_pgm_says_what_is_white(white: int, brightest: float) -> None:
    values = np.round(RAMP * brightest * white)
    np.testing.assert_allclose(gray_of(pgm(values, white)), RAMP * brightest * 255, atol=1)


@pytest.mark.parametrize("brightest", [1.0, 0.02])
def test_a_png_of_16_bits_says_what_is_white(brightest: float) -> None:
    values = np.round(RAMP * brightest * 65535).astype(np.uint16)
    np.testing.assert_allclose(gray_of(saved(values, "PNG")), RAMP * brightest * 255, atol=1)


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.uint16])
@pytest.mark.parametrize(("largest", "white"), [(255, 255), (100, 255), (65535, 65535), (4095, 4095), (3, 3)])
def test_a_tiff_of_large_numbers_is_neither_black_nor_white(dtype: type, largest: int, white: int) -> None:
    values = np.round(RAMP * largest).astype(dtype)
    np.testing.assert_allclose(gray_of(saved(values, "TIFF")), values / white * 255, atol=1)


@pytest.mark.parametrize(
    ("low", "high", "black", "white"),
    [
        (0, 1, 0, 255),  # as it is
        (0.2, 0.8, 51, 204),
        (0, 1.3, 0, 255),  # brighter than white: stretched
        (0, 1e-4, 0, 255),
        (-1, 1, 0, 255),
        (-1000, 3000, 0, 255),
        (0, 1e30, 0, 255),
    ],
)
def test_real_numbers(low: float, high: float, black: int, white: int) -> None:
    found = gray_of(saved((low + (high - low) * RAMP).astype(np.float32), "TIFF"))
    np.testing.assert_allclose(found, black + (white - black) * RAMP, atol=1)


def test_what_is_no_number_does_no_harm() -> None:
    values = RAMP.copy()
    values[0, :3] = (np.nan, np.inf, -np.inf)
    assert eight_bits(values)[0, :3].tolist() == [0, 255, 0]
    np.testing.assert_allclose(eight_bits(values)[1:], RAMP[1:] * 255, atol=1)
    assert eight_bits(np.full((2, 2), np.nan)).tolist() == [[0, 0], [0, 0]]
    assert eight_bits(np.zeros((2, 2), np.int32)).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(("dtype", "scale"), [(np.float32, 1.0), (np.float64, 1.0), (np.uint16, 65535.0)])
def test_a_tiff_of_three_channels_keeps_its_colours(dtype: type, scale: float) -> None:
    values = np.stack((RAMP, RAMP[::-1], np.full_like(RAMP, 0.25)), 2)
    _, data = cv2.imencode(".tiff", (values[..., ::-1] * scale).astype(dtype))
    np.testing.assert_allclose(decode(data.tobytes()).astype(int), values * 255, atol=1)
    with pytest.raises(DecodeError):
        decode(data.tobytes()[:200])


COLOURS = np.dstack([np.full((8, 8), value, np.uint8) for value in (200, 100, 40)])
ALPHA = np.repeat(np.array([0, 51, 204, 255], np.uint8), 16).reshape(8, 8)
ON_WHITE = np.rint(COLOURS * (ALPHA[..., None] / 255) + 255 * (1 - ALPHA[..., None] / 255))


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "WEBP"])
def test_what_is_transparent_is_white(file_format: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.dstack((COLOURS, ALPHA))).save(buffer, file_format, lossless=True, exact=True)
    np.testing.assert_allclose(decode(buffer.getvalue()).astype(int), ON_WHITE, atol=1)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_gray_with_transparency(file_format: str) -> None:
    data = saved(np.dstack((COLOURS[..., 0], ALPHA)), file_format, "LA")
    np.testing.assert_allclose(gray_of(data), ON_WHITE[..., 0], atol=1)


@pytest.mark.parametrize(("mode", "file_format"), [("P", "PNG"), ("P", "GIF"), ("L", "PNG"), ("RGB", "PNG")])
def test_a_transparent_colour_is_white(mode: str, file_format: str) -> None:
    picture = Image.new(mode, (8, 8), {"P": 3, "L": 3, "RGB": (3, 3, 3)}[mode])
    other = {"P": 5, "L": 50, "RGB": (50, 50, 50)}[mode]
    picture.paste(other, (0, 0, 4, 8))
    if mode == "P":
        picture.putpalette([9 * (value // 3) for value in range(30)])
    buffer = io.BytesIO()
    picture.save(buffer, file_format, transparency=(3, 3, 3) if mode == "RGB" else 3)
    found = gray_of(buffer.getvalue())
    assert (found[:, 4:] == 255).all()
    assert (found[:, :4] == (45 if mode == "P" else 50)).all()


def test_a_transparent_value_of_16_bits_is_white() -> None:
    values = np.full((8, 8), 3, np.uint16)
    values[:, :4] = 0x4000
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG", transparency=3)
    assert gray_of(buffer.getvalue())[0].tolist() == [0x40] * 4 + [255] * 4


def test_a_file_of_no_known_format_is_said_so() -> None:
    with pytest.raises(DecodeError, match=r"^no image of a known format$"):
        decode(b"<html>not found</html>")
    with pytest.raises(DecodeError, match="TIFF"):
        decode(b"II*\0" + b"\x08\0\0\0" + bytes(20))
