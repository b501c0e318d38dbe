"""What the project's pages share: templates that escape all text, and pictures inside them."""

import base64

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from components.data.image import Pixels, encode_jpeg, resize

QUALITY = 82


def render(template: str, **values: object) -> str:
    """Return a template of this folder, filled; in HTML all text is escaped, a missing value is an error."""
    environment = Environment(
        loader=PackageLoader("components.report", "templates"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(**values)


def data_uri(pixels: Pixels, longer_side: int) -> str:
    """Return a JPEG of pixels (height, width, 3) as a data URI, shrunk to ``longer_side`` if larger.

    So a page needs no other file.
    """
    height, width = pixels.shape[:2]
    scale = longer_side / max(height, width)
    if scale < 1:
        pixels = resize(pixels, max(1, round(height * scale)), max(1, round(width * scale)))
    return "data:image/jpeg;base64," + base64.b64encode(encode_jpeg(pixels, QUALITY)).decode()
