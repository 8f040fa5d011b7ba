"""Text files of any system: UTF-8 or UTF-16, with or without a byte-order mark."""

import codecs
import os
from pathlib import Path

from dinogen.errors import UsageError

# UTF-32's mark begins with UTF-16's.
MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def encoding_of(payload: bytes) -> str:
    """The encoding that a text's first bytes show: a mark, or a zero beside the first letter; else UTF-8."""
    for mark, encoding in MARKS.items():
        if payload.startswith(mark):
            return encoding
    if len(payload) > 1 and (payload[0] == 0) != (payload[1] == 0):
        return "utf-16-be" if payload[0] == 0 else "utf-16-le"
    return "utf-8"


def decode_text(payload: bytes, where: object, errors: str = "strict") -> str:
    """The text in some bytes, without its byte-order mark.

    Args:
        payload: a whole file.
        where: names it in errors.
        errors: what to do with bytes that are no UTF-8, as `bytes.decode` takes it.

    Raises:
        UsageError: neither UTF-8 nor UTF-16; names the line.
    """
    encoding = encoding_of(payload)
    try:
        return payload.decode(encoding, errors if encoding.startswith("utf-8") else "strict")
    except UnicodeDecodeError as error:
        line = payload[: error.start].count(b"\n") + 1
        name = encoding.removesuffix("-sig").upper()
        raise UsageError(f"{where}: line {line}: cannot be read as {name} text; save it as UTF-8") from error


def read_text(path: str | os.PathLike[str], errors: str = "strict") -> str:
    """The text in a file, see `decode_text`.

    Raises:
        UsageError: it cannot be opened, or is neither UTF-8 nor UTF-16.
    """
    try:
        payload = Path(path).read_bytes()
    except (OSError, ValueError) as error:  # a ValueError of a path with a zero byte
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{path}: cannot be read ({reason})") from error
    return decode_text(payload, path, errors)
