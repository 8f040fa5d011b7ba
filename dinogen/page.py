"""HTML reports as single files that need nothing beside them: no network, no script, no picture files."""

import base64
import io

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

import dinogen

JPEG_QUALITY = 90


def render(template: str, title: str, **values: object) -> str:
    """Fill a template of `dinogen/templates`; whatever is filled in is escaped.

    Args:
        template: its file's name. It extends `base.html`, and takes tables, pictures and plots from `parts.html`.
        title: heads the page.
        values: what the template names.

    Raises:
        jinja2.UndefinedError: the template names a value that is not given.
    """
    return ENVIRONMENT.get_template(template).render(title=title, version=dinogen.__version__, **values)


def data_uri(image: Image.Image) -> str:
    """A picture as an address that holds it, as a JPEG: enlarged images are smooth, and PNGs of them are large."""
    jpeg = io.BytesIO()
    image.convert("RGB").save(jpeg, format="JPEG", quality=JPEG_QUALITY, subsampling=0, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg.getvalue()).decode()}"


ENVIRONMENT = Environment(
    loader=PackageLoader("dinogen"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
ENVIRONMENT.filters["data_uri"] = data_uri
