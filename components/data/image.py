"""Encoded images to pixels and back; the only file that knows an image library.

Pixels are uint8 RGB arrays of shape (height, width, 3), which need not be writable. An EXIF
orientation is not applied but by `decode_upright`: the boxes, labels and published figures of COCO and
VOC refer to the pixels as stored.

JPEG goes through simplejpeg (libjpeg-turbo; on one core faster than OpenCV, torchvision and Pillow)
and everything it refuses, CMYK among it, through Pillow. Resizing is torchvision's, within rounding:
bilinear, antialiased where the image shrinks. On uint8 that is two to four times faster in torch than
OpenCV's area averaging; where nothing shrinks, OpenCV's bilinear resizing is twice as fast as torch's.
"""

import io
import re

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import ExifTags, Image

Pixels = NDArray[np.uint8]

_JPEG_START = b"\xff\xd8\xff"
_PPM = re.compile(rb"P6\n(\d+) (\d+)\n255\n")  # as encode_ppm writes it: width and height


class DecodeError(ValueError):
    """Bytes that are not a whole image; says why."""


def decode(data: bytes) -> Pixels:
    """Decode an image of any common format to pixels.

    Gray becomes three equal channels, 16-bit is cut to 8, transparency is dropped, and of an
    animation the first picture is taken.

    Raises:
        DecodeError: if the bytes are truncated, corrupt or no image at all.
    """
    if not data:
        raise DecodeError("the file is empty")
    if data[:3] == _JPEG_START:
        try:
            return simplejpeg.decode_jpeg(data, "RGB")
        except ValueError as error:
            if "premature end" in str(error).lower():
                raise DecodeError(f"truncated JPEG ({error})") from error
    if header := _PPM.match(data):
        width, height = int(header[1]), int(header[2])
        if len(data) - header.end() == height * width * 3:
            return np.frombuffer(data, np.uint8, offset=header.end()).reshape(height, width, 3)
    return _decode_with_pillow(data)


def verify(data: bytes) -> None:
    """Make sure that ``decode`` can decode an image.

    Of a JPEG all bytes are read, but only an eighth of the rows and columns of its brightness is
    computed: a third less work than decoding it.

    Raises:
        DecodeError: as ``decode`` does.
    """
    if data[:3] == _JPEG_START:
        try:
            simplejpeg.decode_jpeg(data, "GRAY", min_height=1, min_width=1)
            return
        except ValueError:
            pass  # decode knows what to do, and what to say
    decode(data)


def decode_upright(data: bytes) -> Pixels:
    """Decode, and turn the picture as its EXIF orientation says: for photographs that people bring.

    Raises:
        DecodeError: if the bytes are truncated, corrupt or no image at all.
    """
    pixels = decode(data)
    orientation = _exif_orientation(data)
    if orientation in (5, 6, 7, 8):  # rows and columns exchanged
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _exif_orientation(data: bytes) -> int:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # broken metadata in a dozen ways; the pixels are whole all the same
        return 1


def _decode_with_pillow(data: bytes) -> Pixels:
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.mode.startswith("I;16"):
                gray = (np.asarray(image) >> 8).astype(np.uint8)
                return np.repeat(gray[:, :, None], 3, axis=2)
            return np.array(image.convert("RGB"))
    except MemoryError:
        raise
    except Exception as error:  # Pillow's plugins raise a dozen unrelated types on broken files
        raise DecodeError(str(error) or type(error).__name__) from error


def encode_jpeg(pixels: Pixels, quality: int) -> bytes:
    """Encode pixels as a baseline JPEG with 4:2:0 chroma; ``quality`` is 1 to 100."""
    encoded: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels), quality=quality, colorspace="RGB", colorsubsampling="420"
    )
    return encoded


def encode_ppm(pixels: Pixels) -> bytes:
    """Pixels as they are, behind a header: ``decode`` has nothing to compute, nor to copy."""
    height, width, _ = pixels.shape
    return b"".join((b"P6\n%d %d\n255\n" % (width, height), np.ascontiguousarray(pixels).data))


def resize(pixels: Pixels, height: int, width: int) -> Pixels:
    """New pixels of shape (height, width, 3), antialiased where they shrink."""
    if pixels.shape[:2] == (height, width):
        return pixels.copy()
    if height >= pixels.shape[0] and width >= pixels.shape[1]:
        return cv2.resize(pixels, (width, height)).astype(np.uint8, copy=False)
    import torch  # here, so that a store that keeps its files' bytes is built without it

    if not pixels.flags.writeable:
        pixels = pixels.copy()  # of which torch would warn
    # In this order torch sees that the channels lie last; otherwise it answers with planes, to be copied.
    channels_last = torch.from_numpy(pixels).unsqueeze(0).permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(channels_last, (height, width), mode="bilinear", antialias=True)
    result: Pixels = np.ascontiguousarray(resized.permute(0, 2, 3, 1)[0].numpy())
    return result


def resize_short_side(pixels: Pixels, short_side: int) -> Pixels:
    """Pixels whose shorter side is ``short_side``, larger or smaller than before, shape kept."""
    height, width = pixels.shape[:2]
    scale = short_side / min(height, width)
    return resize(pixels, max(short_side, round(height * scale)), max(short_side, round(width * scale)))
