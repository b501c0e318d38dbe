"""Pictures inside a page, so that it needs no other file."""

import base64

from components.data.image import Pixels, encode_jpeg, resize

QUALITY = 82


def data_uri(pixels: Pixels, longer_side: int) -> str:
    """A JPEG of pixels (height, width, 3), shrunk to ``longer_side`` where it is larger, as a data URI."""
    height, width = pixels.shape[:2]
    scale = longer_side / max(height, width)
    if scale < 1:
        pixels = resize(pixels, max(1, round(height * scale)), max(1, round(width * scale)))
    return "data:image/jpeg;base64," + base64.b64encode(encode_jpeg(pixels, QUALITY)).decode()
