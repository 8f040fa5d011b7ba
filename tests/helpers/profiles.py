"""Colour profiles, made by hand."""

import struct
from collections.abc import Sequence

SRGB_PRIMARIES = ((0.4360, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))
P3_PRIMARIES = ((0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841))
WHITE = (0.9642, 1.0, 0.8249)


def fixed(x: float) -> bytes:
    return struct.pack(">i", round(x * 65536))


def profile(name: str, primaries: Sequence[Sequence[float]] = SRGB_PRIMARIES, gamma: float = 1.0) -> bytes:
    """An ICC profile, version 2, of RGB values that are light ** (1 / gamma)."""

    def xyz(values: Sequence[float]) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(map(fixed, values))

    text = b"desc\0\0\0\0" + struct.pack(">I", len(name) + 1) + name.encode() + b"\0" * 79
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    tags = [
        (b"desc", text + b"\0" * (-len(text) % 4)), (b"wtpt", xyz(WHITE)), (b"rXYZ", xyz(primaries[0])),
        (b"gXYZ", xyz(primaries[1])), (b"bXYZ", xyz(primaries[2])), (b"rTRC", curve), (b"gTRC", curve),
        (b"bTRC", curve), (b"cprt", b"text\0\0\0\0none\0\0\0\0"),
    ]  # fmt: skip
    table = data = b""
    for tag, value in tags:
        table += tag + struct.pack(">II", 132 + 12 * len(tags) + len(data), len(value))
        data += value
    body = struct.pack(">I", len(tags)) + table + data
    head = b"lcms\2\x40\0\0mntrRGB XYZ " + b"\0" * 12 + b"acsp" + b"\0" * 28 + b"".join(map(fixed, WHITE)) + b"\0" * 48
    return struct.pack(">I", 128 + len(body)) + head + body
