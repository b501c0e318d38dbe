import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision.transforms.v2 import functional as tv

from components.data.image import (
    DecodeError,
    decode,
    encode_jpeg,
    encode_ppm,
    resize,
    resize_short_side,
    verify,
)

GRADIENT = np.stack(
    np.broadcast_arrays(np.arange(60)[:, None] * 4, np.arange(80)[None] * 3, np.full((60, 80), 90)), 2
).astype(np.uint8)


def encoded(mode: str = "RGB", file_format: str = "JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(GRADIENT).convert(mode).save(buffer, file_format, **options)
    return buffer.getvalue()


def difference(left: np.ndarray, right: np.ndarray) -> float:
    return float(np.abs(left.astype(int) - right.astype(int)).mean())


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"optimize": True}])
def test_jpeg(options: dict) -> None:
    pixels = decode(encoded(quality=95, **options))
    assert pixels.shape == (60, 80, 3)
    assert pixels.dtype == np.uint8
    assert difference(pixels, GRADIENT) < 3


@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_gray_becomes_three_equal_channels(file_format: str) -> None:
    pixels = decode(encoded("L", file_format))
    assert pixels.shape == (60, 80, 3)
    assert (pixels[..., :1] == pixels).all()
    assert pixels.std() > 10


def test_cmyk_jpeg() -> None:
    assert difference(decode(encoded("CMYK", quality=95)), GRADIENT) < 4


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "WEBP", "TIFF"])
def test_lossless_formats(file_format: str) -> None:
    options = {"lossless": True} if file_format == "WEBP" else {}
    np.testing.assert_array_equal(decode(encoded("RGB", file_format, **options)), GRADIENT)


def test_palettes_are_resolved() -> None:
    assert difference(decode(encoded("P", "GIF")), GRADIENT) < 20


def test_kept_pixels_come_back_without_a_copy() -> None:
    data = encode_ppm(GRADIENT[:, ::-1])
    pixels = decode(data)
    np.testing.assert_array_equal(pixels, GRADIENT[:, ::-1])
    assert pixels.base is not None
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(np.asarray(image), pixels)
    with pytest.raises(DecodeError):
        decode(data[:-1])


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_truncated_jpeg(mode: str, share: float) -> None:
    data = encoded(mode)
    for read in (decode, verify):
        with pytest.raises(DecodeError):
            read(data[: int(share * len(data))])


@pytest.mark.parametrize("file_format", ["PNG", "GIF", "WEBP"])
def test_truncated_files_of_other_formats(file_format: str) -> None:
    data = encoded("P" if file_format == "GIF" else "RGB", file_format)
    with pytest.raises(DecodeError):
        decode(data[: len(data) // 2])


@pytest.mark.parametrize(
    "data", [b"", b"<html>not found</html>", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n" + bytes(40)]
)
def test_what_is_no_image(data: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(data)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_verify_judges_damage_as_decode_does(mode: str, options: dict) -> None:
    def accepts(read, data: bytes) -> bool:
        try:
            read(data)
        except DecodeError:
            return False
        return True

    whole, rng = encoded(mode, **options), np.random.default_rng(0)
    verdicts = []
    for _ in range(150):
        damaged = bytearray(whole)
        damaged[int(rng.integers(len(whole)))] = int(rng.integers(256))
        verdicts.append((accepts(verify, bytes(damaged)), accepts(decode, bytes(damaged))))
    assert all(quick == full for quick, full in verdicts)
    assert not all(full for _, full in verdicts)


@pytest.mark.parametrize("size", [(17, 23), (60, 30), (90, 120), (40, 160)])
def test_resizing_is_torchvisions(size: tuple[int, int]) -> None:
    part = GRADIENT[3:50, 7:70]
    theirs = tv.resize(torch.from_numpy(part).permute(2, 0, 1), list(size), antialias=True)
    ours = resize(part, *size)
    rounding = int(size[0] >= 47 and size[1] >= 63)  # enlarged by OpenCV
    np.testing.assert_allclose(ours.astype(int), theirs.permute(1, 2, 0).numpy(), rtol=0, atol=rounding)
    assert ours.flags.c_contiguous


def test_encoding_keeps_the_picture() -> None:
    assert difference(decode(encode_jpeg(GRADIENT[:, ::-1], 95)), GRADIENT[:, ::-1]) < 3
    assert len(encode_jpeg(GRADIENT, 30)) < len(encode_jpeg(GRADIENT, 95))


def test_shrinking_is_antialiased() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 254
    np.testing.assert_allclose(resize(stripes, 16, 16)[:, 1:-1], 127, atol=1)  # the filter ends at the edge


@pytest.mark.parametrize(("short_side", "shape"), [(30, (30, 40, 3)), (120, (120, 160, 3)), (7, (7, 9, 3))])
def test_the_shorter_side_is_met_and_the_shape_kept(short_side: int, shape: tuple[int, ...]) -> None:
    assert resize_short_side(GRADIENT, short_side).shape == shape
    turned = resize_short_side(np.ascontiguousarray(GRADIENT.transpose(1, 0, 2)), short_side)
    assert turned.shape == (shape[1], shape[0], 3)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(10))
def test_photographs_are_turned_as_their_exif_says(orientation: int, file_format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(file_format=file_format, exif=exif.tobytes() if file_format == "JPEG" else exif)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    assert expected.shape[:2] == ((80, 60) if 5 <= orientation <= 8 else (60, 80))
    assert difference(decode(data), expected) < 1  # two decoders of JPEG
    verify(data)
    if file_format != "TIFF":  # which Pillow always turns
        assert decode(data, upright=False).shape == GRADIENT.shape
        assert difference(decode(data, upright=False), decode(encoded(file_format=file_format))) == 0


def test_an_orientation_in_xmp_counts_too() -> None:
    xmp = b'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta tiff:Orientation="8"/>'
    data = encoded()
    data = data[:2] + b"\xff\xe1" + (len(xmp) + 2).to_bytes(2, "big") + xmp + data[2:]
    with Image.open(io.BytesIO(data)) as image:
        assert image.getexif().get(0x0112) == 8
    assert decode(data).shape == (80, 60, 3)


def test_broken_exif_does_not_matter() -> None:
    data = encoded()
    broken = data[:2] + b"\xff\xe1\x00\x10Exif\x00\x00II*\x00\xff\xff" + data[2:]
    assert decode(broken).shape == GRADIENT.shape


def png_claiming(width: int, height: int) -> bytes:
    """A PNG of a pixel whose header says otherwise."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    whole = encoded(file_format="PNG")
    return whole[:8] + chunk + whole[8 + len(chunk) :]


def jpeg_claiming(width: int, height: int) -> bytes:
    data = encoded(quality=90)
    frame = data.index(b"\xff\xc0") + 5
    return data[:frame] + struct.pack(">HH", height, width) + data[frame + 4 :]


@pytest.mark.parametrize("claiming", [png_claiming, jpeg_claiming])
def test_one_limit_on_pixels_for_all_decoders(claiming: Callable[[int, int], bytes]) -> None:
    for read in (decode, verify):
        with pytest.raises(DecodeError, match=r"178,?956,?970 pixels.*make it smaller"):
            read(claiming(50_000, 50_000))
        with pytest.raises(DecodeError, match="make it smaller"):
            read(claiming(20_000, 9_000))
        with pytest.raises(DecodeError) as within:
            read(claiming(20_000, 8_000)[:400])
        assert "limit" not in str(within.value)
