"""Encoded images to pixels and back; no file but this and any_format knows an image library.

Pixels are uint8 RGB arrays of shape (height, width, 3), which need not be writable.

Pictures are turned upright as their EXIF orientation says, for everything that is trained, measured or
shown. So does the paper's code, by OpenCV, for COCO, VOC2007 and iNaturalist, and so does detectron2
(detection_utils.read_image), whose check of sizes shows that the boxes of COCO, LVIS and VOC fit. There
are two exceptions. ImageNet is read as stored (components.sources.readers.imagenet): torchvision, with which
the paper and the published supervised weights read it, does not turn. And tools for boxes of one's own
follow either custom: the size that an annotation states tells which
(components.benchmarks.detection.samples).

JPEG goes through simplejpeg (libjpeg-turbo; on one core faster than OpenCV, torchvision and Pillow)
and everything it refuses, CMYK among it, through components.data.any_format. Resizing is torchvision's,
within rounding: bilinear, antialiased where the image shrinks. On uint8 that is two to four times faster
in torch than OpenCV's area averaging; where nothing shrinks, OpenCV's bilinear resizing is twice as fast
as torch's.
"""

import re

import cv2
import numpy as np
import simplejpeg

from components.data import any_format
from components.data.any_format import DecodeError, Pixels, require_size

__all__ = [
    "DecodeError",
    "Pixels",
    "decode",
    "encode_jpeg",
    "encode_ppm",
    "resize",
    "resize_short_side",
    "verify",
]

_JPEG_START = b"\xff\xd8\xff"
_PPM = re.compile(rb"P6\n(\d+) (\d+)\n255\n")  # as encode_ppm writes it: width and height


def decode(data: bytes, *, upright: bool = True) -> Pixels:
    """Decode an image of any common format to pixels.

    Gray becomes three equal channels, more than 8 bits are cut to 8, what is transparent becomes white,
    and of an animation the first picture is taken.

    Args:
        data: the file.
        upright: turn the picture as its metadata say; else it stays as stored (but TIFF).

    Raises:
        DecodeError: if the bytes are truncated, corrupt, too large or no image at all.
    """
    if not data:
        raise DecodeError("the file is empty")
    if data[:3] == _JPEG_START and (pixels := _decode_jpeg(data)) is not None:
        return any_format.turned(pixels, any_format.jpeg_orientation(data)) if upright else pixels
    if header := _PPM.match(data):
        width, height = int(header[1]), int(header[2])
        if len(data) - header.end() == height * width * 3:
            return np.frombuffer(data, np.uint8, offset=header.end()).reshape(height, width, 3)
    return any_format.read(data, upright)


def verify(data: bytes) -> None:
    """Make sure that ``decode`` can decode an image.

    Of a JPEG all bytes are read, but only an eighth of the rows and columns of its brightness is
    computed: a third less work than decoding it.

    Raises:
        DecodeError: as ``decode`` does.
    """
    if data[:3] == _JPEG_START and _has_usual_header(data):
        try:
            simplejpeg.decode_jpeg(data, "GRAY", min_height=1, min_width=1)
            return
        except ValueError:
            pass  # decode knows what to do, and what to say
    decode(data)


def _decode_jpeg(data: bytes) -> Pixels | None:
    """Decode a JPEG; return None where another decoder has to try."""
    if not _has_usual_header(data):
        return None
    try:
        return simplejpeg.decode_jpeg(data, "RGB")
    except ValueError as error:
        if "premature end" in str(error).lower():
            raise DecodeError(f"truncated JPEG ({error})") from error
        return None


def _has_usual_header(data: bytes) -> bool:
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return False
    require_size(width, height)
    return True


def encode_jpeg(pixels: Pixels, quality: int) -> bytes:
    """Encode pixels as a baseline JPEG with 4:2:0 chroma; ``quality`` is 1 to 100."""
    encoded: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels), quality=quality, colorspace="RGB", colorsubsampling="420"
    )
    return encoded


def encode_ppm(pixels: Pixels) -> bytes:
    """Put a header before the pixels as they are: ``decode`` has nothing to compute, nor to copy."""
    height, width, _ = pixels.shape
    return b"".join((b"P6\n%d %d\n255\n" % (width, height), np.ascontiguousarray(pixels).data))


def resize(pixels: Pixels, height: int, width: int, antialias: bool = True) -> Pixels:
    """Return new pixels of shape (height, width, 3), antialiased where they shrink if ``antialias``."""
    if pixels.shape[:2] == (height, width):
        return pixels.copy()
    if not antialias or (height >= pixels.shape[0] and width >= pixels.shape[1]):
        return cv2.resize(pixels, (width, height)).astype(np.uint8, copy=False)
    import torch  # here, so that a store that keeps its files' bytes is built without it

    if not pixels.flags.writeable:
        pixels = pixels.copy()  # of which torch would warn
    # In this order torch sees that the channels lie last; otherwise it answers with planes, to be copied.
    channels_last = torch.from_numpy(pixels).unsqueeze(0).permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(channels_last, (height, width), mode="bilinear", antialias=True)
    result: Pixels = np.ascontiguousarray(resized.permute(0, 2, 3, 1)[0].numpy())
    return result


def resize_short_side(pixels: Pixels, short_side: int, antialias: bool = True) -> Pixels:
    """Return the pixels whose shorter side is ``short_side``, larger or smaller than before, shape kept."""
    height, width = pixels.shape[:2]
    scale = short_side / min(height, width)
    size = max(short_side, round(height * scale)), max(short_side, round(width * scale))
    return resize(pixels, *size, antialias)
