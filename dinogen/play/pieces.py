"""Parts of the page as HTML that holds its pictures: nothing is written to a disk for them."""

import base64
from html import escape

from PIL.Image import Image

from dinogen.images import png_bytes


def address_of(payload: bytes, kind: str) -> str:
    """An address that holds some bytes of a kind such as image/png."""
    return f"data:{kind};base64,{base64.b64encode(payload).decode()}"


def picture(payload: bytes, alt: str, css_class: str = "dinogen-picture") -> str:
    """A PNG as a picture on the page."""
    return f'<img class="{css_class}" src="{address_of(payload, "image/png")}" alt="{escape(alt)}">'


def download(payload: bytes, kind: str, name: str, text: str) -> str:
    """A link that saves some bytes as a file."""
    return f'<a class="dinogen-save" href="{address_of(payload, kind)}" download="{escape(name)}">{escape(text)}</a>'


def shown(image: Image, name: str, alt: str, about: str) -> str:
    """A picture and the link that saves it; the file keeps `about`."""
    payload = png_bytes(image, about)
    return picture(payload, alt) + f"<p>{download(payload, 'image/png', name, 'Save the picture')}</p>"


def film(payload: bytes, name: str) -> str:
    """A film that runs, and the link that saves it."""
    address = address_of(payload, "video/mp4")
    video = f'<video class="dinogen-film" src="{address}" autoplay loop muted controls playsinline></video>'
    return video + f"<p>{download(payload, 'video/mp4', name, 'Save the film')}</p>"


def paragraph(text: str, css_class: str = "dinogen-note") -> str:
    """Some words; nothing where there are none."""
    return f'<p class="{css_class}">{escape(text)}</p>' if text else ""


def progress(done: int, of: int) -> str:
    """A bar."""
    return f'<progress class="dinogen-progress" value="{done}" max="{of}"></progress>'
