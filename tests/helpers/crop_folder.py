"""Folders of crops as `dinogen crop` leaves them, drawn in a moment: tests of packing and loading need no photo."""

import hashlib
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw


def draw_crop(seed: int, size: int = 256) -> Image.Image:
    """A face-like picture: a head, eyes and a mouth of random place and colour on a gradient."""
    random = np.random.RandomState(seed)
    ramp = np.linspace(0, 1, size)[:, None, None] * random.uniform(40, 200, (1, size, 3))
    image = Image.fromarray((ramp + random.uniform(0, 50, (1, 1, 3))).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    x, y = random.uniform(0.45, 0.55, 2) * size
    width, height = random.uniform(0.28, 0.36) * size, random.uniform(0.36, 0.46) * size
    draw.ellipse((x - width, y - height, x + width, y + height), fill=tuple(random.randint(90, 255, 3).tolist()))
    for side in (-1, 1):
        eye = x + side * 0.4 * width
        draw.ellipse((eye - 12, y - 40, eye + 12, y - 24), fill=tuple(random.randint(0, 90, 3).tolist()))
    draw.ellipse((x - 30, y + 50, x + 30, y + 66), fill=(150, 40, 50))
    return image


def caption_of(number: int) -> str | None:
    """A caption for a crop; every eighth has none."""
    hair, extra = ("dark", "fair")[number % 2], ("glasses", "a beard", "a hat")[number % 3]
    return None if number % 8 == 7 else f"a face with {hair} hair and {extra}"


def make_crops(
    folder: Path,
    count: int,
    first: int = 0,
    split: str | None = None,
    suffix: str = "jpg",
    captioned: bool = False,
) -> list[str]:
    """Write `count` crops and return their keys. Sources are `photo-0000.jpg`, `photo-0001.jpg`, …"""
    folder.mkdir(parents=True, exist_ok=True)
    keys = []
    for number in range(first, first + count):
        source = f"photo-{number:04d}.jpg"
        sha256 = hashlib.sha256(source.encode()).hexdigest()
        key = f"{sha256[:16]}-0"
        draw_crop(number).save(folder / f"{key}.{suffix}", quality=95, subsampling=0)
        record = {
            "source": source,
            "source_sha256": sha256,
            "box": [10.0, 20.0, 210.5, 260.0],
            "landmarks": [[100, 110], [150, 110], [125, 140], [105, 170], [145, 170]],
            "score": 0.999,
            "transform": [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]],
            "licence": "CC0",
            "consent": None,
            "size": 256,
        } | ({"split": split} if split else {})
        if captioned:
            record["caption"] = caption_of(number)
        (folder / f"{key}.json").write_text(json.dumps(record))
        keys.append(key)
    return keys
