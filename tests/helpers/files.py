"""Picture files as bytes: whole ones, and ones made to do harm."""

import io
import zlib

from PIL import Image

from helpers.drawn_face import draw_face

EXIF_ORIENTATION, GPS = 0x0112, 0x8825


def encoded(image: Image.Image, format: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def png_bomb(width: int, height: int) -> bytes:
    """A PNG of a few hundred bytes that claims to hold an enormous picture."""
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    data = zlib.compress(b"\0" * 100_000)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")


def photo(number: int) -> bytes:
    stream = io.BytesIO()
    draw_face((200, 200), height=110 + number, background=(10 * number, 120, 140)).save(stream, "JPEG")
    return stream.getvalue()


def turned_for_exif(image: Image.Image, orientation: int) -> Image.Image:
    """How a camera stores an upright scene that it declares with `orientation`."""
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    return image.transpose(Image.Transpose(undo[orientation])) if orientation > 1 else image
