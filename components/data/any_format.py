"""Images of any format with Pillow, and TIFFs that Pillow does not know with OpenCV; orientation too.

White is what the file declares it to be: the largest number of 8 or 16 bits. TIFFs of 16 and more
bits and of real numbers declare nothing that holds in practice (cameras write 12 bits into 16), so
their values decide, see `eight_bits`. What is transparent shows a white ground, as a page does.
"""

import io
import warnings

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

Pixels = NDArray[np.uint8]

# The limit of Pillow, which only warns below; 0.5 GB of pixels. The same for all decoders.
MAX_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 0)
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

_DECLARED_16_BITS = ("PNG", "PPM", "JPEG2000")  # Pillow scales their 10 or 12 bits to 16
_WHITES = (1, 255, 65_535)
_LEAST_SHARE_OF_WHITE = 1 / 16
_TIFF_STARTS = (b"II*\0", b"MM\0*")
_ORIENTATION_MARKS = (b"Exif\0\0", b"tiff:Orientation")
_APP1, _START_OF_SCAN = b"\xe1", b"\xda"  # segments of a JPEG: metadata; what follows is compressed


class DecodeError(ValueError):
    """Bytes that are not an image that can be decoded; says why."""


def require_size(width: int, height: int) -> None:
    """Refuse more than `MAX_PIXELS`.

    Raises:
        DecodeError: says the size and the limit.
    """
    if width * height > MAX_PIXELS:
        raise DecodeError(
            f"{width:,} x {height:,} pixels; the limit is {MAX_PIXELS:,} pixels, make it smaller"
        )


def read(data: bytes, upright: bool) -> Pixels:
    """Return the pixels of the first picture in ``data``, turned as its metadata say if ``upright``.

    Raises:
        DecodeError: the bytes are truncated, corrupt, too large or no image.
    """
    try:
        return _read(data, upright)
    except UnidentifiedImageError as error:
        if data[:4] in _TIFF_STARTS:
            return _read_tiff(data)
        raise DecodeError("no image of a known format") from error
    except (MemoryError, DecodeError):
        raise
    except Exception as error:  # Pillow's plugins raise a dozen unrelated types on broken files
        raise DecodeError(str(error) or type(error).__name__) from error


def _read(data: bytes, upright: bool) -> Pixels:
    with _opened(data) as image:
        image.load()
        # Asked now: PNGs may name it behind the pixels, and a loaded TIFF has been turned by Pillow.
        orientation = _orientation(image) if upright else 1
        if image.mode in ("I", "F") or image.mode.startswith("I;16"):
            pixels = _from_numbers(image)
        elif image.has_transparency_data:
            ground = Image.new("RGBA", image.size, "white")
            pixels = np.array(Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB"))
        else:
            pixels = np.array(image.convert("RGB"))
    return turned(pixels, orientation)


def _opened(data: bytes) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data))
    except Image.DecompressionBombError as error:
        raise DecodeError(f"{error}; make it smaller") from error
    require_size(*image.size)
    return image


def _from_numbers(image: Image.Image) -> Pixels:
    values = np.asarray(image)
    gray = eight_bits(values, white=65_535 if image.format in _DECLARED_16_BITS else None)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        gray = np.where(values == transparent, np.uint8(255), gray)
    return np.repeat(gray[:, :, None], 3, axis=2)


def _read_tiff(data: bytes) -> Pixels:
    """Read what Pillow does not know, such as three channels of real numbers."""
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(data[:8])
        file = io.BytesIO(data)
        file.seek(tags.next)
        tags.load(file)
        require_size(int(tags[256]), int(tags[257]))
        values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except (KeyError, TypeError, SyntaxError, OSError, cv2.error) as error:
        raise DecodeError(f"a TIFF that cannot be read ({error})") from error
    if values is None:
        raise DecodeError("a TIFF of an unknown kind")
    if values.ndim == 2:
        return np.repeat(eight_bits(values)[:, :, None], 3, axis=2)
    pixels = eight_bits(values[:, :, 2::-1])  # OpenCV has blue first
    if values.shape[2] == 4:
        share = eight_bits(values[:, :, 3:]) / 255
        pixels = np.rint(pixels * share + 255 * (1 - share)).astype(np.uint8)
    return np.ascontiguousarray(pixels)


def eight_bits(values: NDArray[np.generic], white: float | None = None) -> Pixels:
    """Map numbers of any kind to 0 (black) to 255.

    Without ``white`` it is the smallest of 1, 255 and 65,535 that holds all values, if the largest
    value is at least a sixteenth of it; else, and where values are negative, the smallest value (0 if
    there is none below) becomes black and the largest white. What is no finite number becomes black or
    white, NaN black.
    """
    if values.dtype == np.uint8:
        return values.astype(np.uint8, copy=False)
    numbers = values.astype(np.float64 if values.dtype.itemsize > 4 else np.float32)
    finite = numbers[np.isfinite(numbers)]
    low, high = (min(0.0, float(finite.min())), float(finite.max())) if finite.size else (0.0, 1.0)
    if white is None:
        white = next((white for white in _WHITES if _LEAST_SHARE_OF_WHITE * white <= high <= white), high)
        white = high if low < 0 else white
    if white == _WHITES[-1] and low == 0:
        return (np.nan_to_num(numbers, nan=0.0).clip(0, white) // 256).astype(np.uint8)
    numbers = np.nan_to_num(numbers, nan=low, posinf=white, neginf=low)
    return np.rint((numbers - low).clip(0) * (255 / ((white - low) or 1.0))).clip(0, 255).astype(np.uint8)


def jpeg_orientation(data: bytes) -> int:
    """Return the orientation of a JPEG as EXIF counts, from 1 (as stored) to 8."""
    if not _names_an_orientation(data):
        return 1
    try:
        with Image.open(io.BytesIO(data)) as image:
            return _orientation(image)
    except Exception:  # broken metadata in a dozen ways; the pixels are whole all the same
        return 1


def _names_an_orientation(data: bytes) -> bool:
    """Return whether it is worth asking Pillow, which takes fifty times as long as looking."""
    place = 2
    while data[place : place + 1] == b"\xff" and data[place + 1 : place + 2] not in (b"", _START_OF_SCAN):
        end = place + 2 + max(2, int.from_bytes(data[place + 2 : place + 4], "big"))
        if data[place + 1 : place + 2] == _APP1 and any(
            mark in data[place:end] for mark in _ORIENTATION_MARKS
        ):
            return True
        place = end
    return False


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # as above
        return 1


def turned(pixels: Pixels, orientation: int) -> Pixels:
    """Return upright pixels; an orientation that EXIF does not know changes nothing."""
    if orientation not in range(2, 9):
        return pixels
    if orientation >= 5:  # rows and columns exchanged
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
