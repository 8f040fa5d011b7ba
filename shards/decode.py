"""Bytes of an unknown picture → upright 8-bit RGB, or a plain cause why not."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from PIL import Image, UnidentifiedImageError, features

from dinogen.upright import upright_rgb

FORMATS = ("JPEG", "PNG", "WEBP")  # every decoder left out is attack surface saved
HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
AVIF_BRANDS = {b"avif", b"avis"}
HEIF_EXTRA = "pip install 'dinogen[heif]'"
MAX_PIXELS = 80_000_000  # about 0.7 GB at worst, with transparency; a decompression bomb does not pass


class Rejected(Exception):
    """A picture that gives no crop. `cause` is one of a few fixed words, to count by; `detail` is for people."""

    def __init__(self, cause: str, detail: str = ""):
        super().__init__(cause, detail)
        self.cause = cause
        self.detail = " ".join(detail.split())[:200]


def decode(payload: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode a picture (the first frame of an animation) to what a viewer shows: upright sRGB on white.

    JPEG, PNG and WebP always; HEIC with the package pillow-heif; AVIF where Pillow was built with it, as it mostly is.

    Args:
        payload: the whole file.
        max_pixels: larger pictures are refused from their header, before memory is taken for them.

    Returns:
        An RGB image of 8 bits a channel that carries no metadata.

    Raises:
        Rejected: `empty-file`, `not-an-image`, `needs-package`, `too-many-pixels` or `damaged`.
    """
    if not payload:
        raise Rejected("empty-file", "the file holds no bytes")
    with warnings.catch_warnings(), pillow_allowing(max_pixels):
        warnings.simplefilter("ignore")  # Pillow warns of large pictures and odd EXIF; both are dealt with here
        image = open_checked(payload, max_pixels)
        try:
            return upright_rgb(image)
        except Exception as error:  # of damaged files decoders raise nearly anything, even SyntaxError
            raise Rejected("damaged", str(error) or type(error).__name__) from error


@contextmanager
def pillow_allowing(pixels: int) -> Iterator[None]:
    """Pillow has a limit of its own, 179 million pixels by default."""
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, pixels
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def open_checked(payload: bytes, max_pixels: int) -> Image.Image:
    """Read the header only, and refuse what is not a picture, or too large a one."""
    formats = formats_for(payload)
    try:
        image = Image.open(io.BytesIO(payload), formats=formats)
    except Image.DecompressionBombError as error:  # at twice the limit
        raise Rejected("too-many-pixels", f"at most {max_pixels:,} are decoded") from error
    except UnidentifiedImageError as error:
        if formats != FORMATS:
            raise Rejected("damaged", f"declares itself {formats[0]}, but cannot be opened") from error
        raise Rejected("not-an-image", "no JPEG, PNG, WebP, HEIC or AVIF") from error
    except Exception as error:
        raise Rejected("damaged", f"{type(error).__name__}: {error}") from error
    if image.width * image.height > max_pixels:
        raise Rejected("too-many-pixels", f"{image.width}×{image.height} pixels; at most {max_pixels:,} are decoded")
    return image


def formats_for(payload: bytes) -> tuple[str, ...]:
    """The decoders that may look at a file: the further ones only at what says that it is theirs."""
    kind = kind_of(payload)
    if kind == ".avif":
        if not features.check_module("avif"):
            raise Rejected("needs-package", "an AVIF; pip install --upgrade pillow")
        return ("AVIF",)
    if kind == ".heic":
        if not heif_decoder():
            raise Rejected("needs-package", f"a HEIC; {HEIF_EXTRA}")
        return ("HEIF",)
    return FORMATS


@cache
def heif_decoder() -> bool:
    """Whether HEIC can be read; makes it so if the package is there."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener(thumbnails=False)
    return True


def kind_of(head: bytes) -> str | None:
    """The usual suffix of what a file's first bytes declare, `.jpg` for one; None if it is none of our pictures."""
    if head[4:8] == b"ftyp":
        length = min(int.from_bytes(head[:4], "big"), 256)
        brands = [head[8:12], *(head[place : place + 4] for place in range(16, length, 4))]
        if AVIF_BRANDS & set(brands):
            return ".avif"
        return ".heic" if HEIF_BRANDS & set(brands) else None
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return ".webp"
    beginnings = {b"\xff\xd8\xff": ".jpg", b"\x89PNG\r\n\x1a\n": ".png"}
    return next((suffix for beginning, suffix in beginnings.items() if head.startswith(beginning)), None)
