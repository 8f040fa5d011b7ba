"""The skin's own colour: flush, freckles, lines of age, and the beard."""

import numpy as np

from shards.synth.canvas import Canvas, linear
from shards.synth.head import Face
from shards.synth.mouth import MOUTH_HALF_WIDTH
from shards.synth.noise import Noise
from shards.synth.person import Person
from shards.synth.solids import Array, Point, smoothstep

BEARD_THICKNESS = {"full beard": 0.085, "goatee": 0.06, "moustache": 0.0, "stubble": 0.0, "none": 0.0}  # units


def paint_skin(skin: Canvas, face: Face, person: Person, noise: Noise) -> None:
    """Paint all of the skin that is neither eye nor mouth nor hair."""
    x, y, _ = skin.point
    flush = np.exp(-(((np.abs(x) - 0.40) / 0.21) ** 2) - ((y + 0.30) / 0.17) ** 2)
    flush = flush + 0.7 * np.exp(-((x / 0.12) ** 2) - ((y - face.nose_base - 0.03) / 0.10) ** 2)
    flush = flush + 0.8 * smoothstep(0.76, 0.86, np.abs(x)) * smoothstep(0.3, 0.1, y) * smoothstep(-0.5, -0.3, y)
    skin.tint(np.minimum(flush, 1.0) * person.blush, (1.02, 0.66, 0.64))
    if person.freckles:
        _paint_freckles(skin, person, noise)
    if person.wear > 0.2:
        _paint_lines(skin, face, person, noise)
    _paint_smile_folds(skin, face, person)
    if person.beard != "none":
        _paint_beard(skin, face, person, noise)


def _paint_freckles(skin: Canvas, person: Person, noise: Noise) -> None:
    x, y, _ = skin.point
    where = np.exp(-((x / 0.46) ** 2) - ((y + 0.24) / 0.15) ** 2)
    spots = smoothstep(0.42, 0.66, noise.plane(x * 38.0, y * 38.0)) * where
    skin.tint(0.65 * person.freckles * spots, (0.72, 0.52, 0.40))


def _paint_lines(skin: Canvas, face: Face, person: Person, noise: Noise) -> None:
    x, y, _ = skin.point
    wobble = 0.012 * noise.line(x * 4.0)
    forehead = smoothstep(0.27, 0.33, y) * smoothstep(0.62, 0.50, y) * smoothstep(0.50, 0.25, np.abs(x))
    lines = np.exp(-((np.sin((y + wobble - 0.04 * x * x) * 38.0) - 1.0) ** 2) / 0.10) * forehead
    # Crow's feet: a fan of short lines outside each eye.
    u, v = np.abs(x) - face.eye_gap - 0.20, y - 0.01
    fan = np.exp(-(((u - 0.06) / 0.05) ** 2) - (v / 0.10) ** 2) * smoothstep(0.0, 0.03, u)
    lines = lines + np.exp(-((np.sin(np.arctan2(v, u + 0.05) * 9.0) - 1.0) ** 2) / 0.15) * fan
    skin.height -= 0.0065 * person.wear * lines
    skin.tint(np.minimum(0.30 * person.wear * lines, 1.0), (0.70, 0.55, 0.50))


def _paint_smile_folds(skin: Canvas, face: Face, person: Person) -> None:
    """The folds from the wings of the nose past the corners of the mouth: by smiling, and by age."""
    patch = skin.patch(0.0, face.mouth + 0.12, 0.75, 0.5, 0.32)
    x, y = np.abs(patch.point[0]), patch.point[1]
    top, bottom = face.nose_base + 0.04, face.mouth - 0.05
    t = np.clip((top - y) / (top - bottom), 0.0, 1.0)
    line = 0.155 * face.nose_width + (0.20 + 0.05 * person.smile) * t**0.9
    strength = max(person.smile, 0.0) * 0.40 + 0.75 * person.wear
    fold = np.exp(-(((x - line) / 0.036) ** 2)) * smoothstep(0.0, 0.15, t) * smoothstep(1.0, 0.75, t)
    cheek = np.exp(-(((x - line - 0.07) / 0.06) ** 2)) * smoothstep(0.0, 0.25, t) * smoothstep(1.0, 0.6, t)
    patch.height += strength * (0.010 * cheek - 0.012 * fold)
    patch.tint(min(0.30 * strength, 0.6) * fold, (0.62, 0.44, 0.40))


def beard_region(face: Face, beard: str, point: Point) -> Array:
    """1 where this beard grows, 0 where it does not, softly, for points in head coordinates."""
    x, y, z = np.abs(point[0]), point[1], point[2]
    mouth = face.mouth
    moustache = (
        smoothstep(0.34, 0.27, x)
        * smoothstep(mouth + 0.015, mouth + 0.05, y + 0.35 * x * x)
        * smoothstep(face.nose_base - 0.055, face.nose_base - 0.10, y + 0.15 * x)
    )
    if beard == "moustache":
        return moustache * smoothstep(0.3, 0.5, z)
    lips = np.sqrt((x / (MOUTH_HALF_WIDTH * face.mouth_width * 1.06)) ** 2 + ((y - mouth + 0.02) / 0.115) ** 2)
    if beard == "goatee":
        chin = smoothstep(0.33, 0.24, x) * smoothstep(mouth + 0.02, mouth - 0.05, y)
        return np.maximum(chin * smoothstep(0.95, 1.2, lips), moustache) * smoothstep(0.1, 0.3, z)
    # The cheek line runs from the ear down to the corner of the mouth.
    cheek_line = mouth + 0.10 + 0.62 * np.maximum(x - 0.30, 0.0) ** 0.8
    cheeks = smoothstep(cheek_line + 0.07, cheek_line - 0.05, y) * smoothstep(-0.35, -0.1, z)
    cheeks = cheeks * smoothstep(0.74, 0.66, x)  # not on the ears
    whole = np.maximum(cheeks * smoothstep(0.95, 1.22, lips), moustache)
    return whole * smoothstep(-1.32 - face.length, -1.14 - face.length, y)


def _paint_beard(skin: Canvas, face: Face, person: Person, noise: Noise) -> None:
    x, y, _ = skin.point
    region = beard_region(face, person.beard, skin.point)
    hairs = 0.6 * noise.plane(x * 55.0 + 6.0 * y, y * 16.0) + 0.4 * noise.plane(x * 110.0, y * 34.0 + 12.0 * x)
    colour = linear(person.hair_rgb) * (1.0 + 0.45 * hairs)[..., None]
    if person.beard == "stubble":
        skin.paint(region * np.clip(0.36 + 0.16 * hairs, 0.0, 1.0), linear(person.brow_rgb))
        return
    mask = smoothstep(0.25, 0.75, region + 0.22 * hairs)
    skin.paint(0.94 * mask, colour)
    skin.height += mask * (0.012 + 0.010 * hairs)
    skin.gloss *= 1.0 - 0.5 * mask
