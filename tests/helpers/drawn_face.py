"""A face drawn by a few ellipses, real enough for a detector: tests need nobody's photo."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter

EYES = ((-0.21, -0.1), (0.21, -0.1))  # pupils, in units of the head's height, from the head's centre


def draw_face(
    size: tuple[int, int] = (320, 320),
    centre: tuple[float, float] | None = None,
    height: float = 200,
    skin: tuple[int, int, int] = (224, 172, 140),
    background: tuple[int, int, int] = (96, 120, 150),
) -> Image.Image:
    """Draw one head of `height` pixels; pupils lie at `centre + height * EYES` (image-left first)."""
    canvas = Image.new("RGB", size, background)
    add_face(canvas, centre or (size[0] / 2, size[1] / 2), height, skin)
    return canvas


def add_face(canvas: Image.Image, centre: tuple[float, float], height: float, skin=(224, 172, 140)) -> None:
    """Draw a head onto a picture."""
    scale, side = 4, 1.6  # drawn four times as large, then reduced: smooth edges
    big = int(height * scale)
    layer = Image.new("RGBA", (int(big * side),) * 2)
    draw = ImageDraw.Draw(layer)

    def ellipse(x: float, y: float, rx: float, ry: float, fill: tuple[int, ...]) -> None:
        middle_x, middle_y = (side / 2 + x) * big, (side / 2 + y) * big
        draw.ellipse((middle_x - rx * big, middle_y - ry * big, middle_x + rx * big, middle_y + ry * big), fill=fill)

    def tone(factor: float) -> tuple[int, ...]:
        return tuple(int(min(255, channel * factor)) for channel in skin) + (255,)

    ellipse(0, -0.06, 0.44, 0.54, (52, 36, 28, 255))  # hair
    ellipse(0, 0.62, 0.2, 0.2, tone(0.75))  # neck
    ellipse(0, 0.02, 0.37, 0.48, tone(1))
    for x in (-0.21, 0.21):
        ellipse(x * 0.95, 0.14, 0.1, 0.08, tone(1.06))  # cheek
        ellipse(x * 0.95, -0.1, 0.115, 0.075, tone(0.86))  # eye socket
        ellipse(x, -0.19, 0.1, 0.022, (56, 38, 30, 255))  # brow
        ellipse(x, -0.1, 0.075, 0.036, (250, 250, 250, 255))
        ellipse(x, -0.1, 0.034, 0.034, (60, 40, 30, 255))
        ellipse(x, -0.1, 0.015, 0.015, (8, 8, 8, 255))
    ellipse(0, 0.02, 0.035, 0.12, tone(1.08))  # bridge of the nose
    ellipse(0, 0.115, 0.07, 0.04, tone(0.88))
    ellipse(-0.035, 0.13, 0.018, 0.012, tone(0.45))
    ellipse(0.035, 0.13, 0.018, 0.012, tone(0.45))
    ellipse(0, 0.26, 0.13, 0.04, (168, 74, 74, 255))  # lips
    ellipse(0, 0.26, 0.11, 0.008, (100, 36, 40, 255))
    layer = layer.filter(ImageFilter.GaussianBlur(0.008 * big))
    reduced = layer.resize((int(height * side),) * 2, Image.Resampling.LANCZOS)
    corner = np.round(np.subtract(centre, np.divide(reduced.size, 2))).astype(int)
    canvas.paste(reduced, tuple(corner.tolist()), reduced)


def draw_faces(count: int, seed: int = 0, side: int = 32) -> torch.Tensor:
    """Faces that differ in place, size and colours, uint8 `[count, 3, side, side]`."""
    random = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        face = draw_face(
            size=(160, 160),
            centre=tuple(random.uniform(74, 86, 2)),
            height=random.uniform(100, 130),
            skin=tuple(int(c) for c in np.array([224, 172, 140]) * random.uniform(0.5, 1.1)),
            background=tuple(int(c) for c in random.integers(40, 200, 3)),
        )
        images.append(np.array(face.resize((side, side), Image.Resampling.BOX)))
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def save_faces(folder: Path, count: int) -> None:
    """Drawn faces as PNGs of 64×64 pixels in a new folder."""
    folder.mkdir()
    for index, face in enumerate(draw_faces(count, side=64)):
        Image.fromarray(face.permute(1, 2, 0).numpy()).save(folder / f"{index}.png")
