"""A run's folder as dinogen play takes it, made without training, and files that somebody may upload."""

import json
import socket
import struct
import zlib
from pathlib import Path

from PIL import Image

from dinogen.teachers import make_teacher
from helpers.worded import save_worded


def make_run(folder: Path) -> Path:
    """A run with words, a teacher, and a log whose last line is half-written."""
    save_worded(folder / "snapshots" / "kimg000001.000", "embedded")
    (folder / "config.yaml").write_text("data: shards\n")
    (folder / "teacher.json").write_text(json.dumps(make_teacher("tiny", (16,)).specs.to_dict()))
    points = [{"kimg": kimg, "loss/total": 3.0 / kimg, "schedule/resolution": 16} for kimg in (1, 2, 3)]
    lines = [json.dumps(point) for point in points]
    (folder / "stats.jsonl").write_text("\n".join([*lines, '{"kimg": 4, "loss']))
    (folder / "log.txt").write_text("1.000 kimg: <b>loss</b> 3.000\n")
    (folder / "pictures").mkdir()
    Image.new("RGB", (64, 32), "red").save(folder / "pictures" / "kimg000001.000.png")
    return folder


def bomb(side: int = 30_000) -> bytes:
    """A PNG of some hundred kilobytes that says it has side × side pixels, and has them."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + side // 8)) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]
