"""Eyes and brows, painted on the skin, in eye coordinates: u outwards, v up, both 0 where a pupil rests."""

import numpy as np

from shards.synth.canvas import Canvas, linear
from shards.synth.head import Face
from shards.synth.noise import Noise
from shards.synth.person import Person
from shards.synth.solids import Array, mix, smoothstep

IRIS = 0.094  # radius in units, times the face's eye size: a third larger than life, as illustrators do
EYE_HALF_WIDTH = 0.196
SCLERA = linear((238, 233, 228))
PINK = linear((214, 140, 128))
INK = linear((24, 16, 15))


def paint_eyes(skin: Canvas, face: Face, person: Person, noise: Noise) -> None:
    """Draw both eyes and both brows; the pupils stand at `face.eye_gap` shifted by the person's gaze."""
    for side in (-1, 1):
        patch = skin.patch(side * face.eye_gap, 0.06, 0.78, 0.34, 0.34)
        u = (patch.point[0] - side * face.eye_gap) * side
        v = patch.point[1] - face.eye_tilt * u
        gaze = (side * person.gaze[0], person.gaze[1])
        _paint_lids(patch, face, person, u, v)
        _paint_eyeball(patch, face, person, u, v, side, gaze, noise)
        _paint_lashes(patch, face, person, u, v)
        _paint_brow(patch, person, u, patch.point[1], noise)


def _lid_curves(face: Face, person: Person, u: Array) -> tuple[Array, Array]:
    """Heights of the upper and the lower lid's edge at `u`; they meet in the corners."""
    size = face.eye_size
    t = u / (EYE_HALF_WIDTH * size)
    arch = np.maximum(1.0 - t * t, -1.0)
    # The upper lid peaks towards the nose, the lower one towards the temple, as in life.
    upper = (0.083 * person.eye_open * size) * arch * (1.0 - 0.16 * t)
    lower = -(0.076 * size) * arch * (1.0 + 0.18 * t) * (1.0 - 0.25 * person.squint)
    return upper, lower


def _paint_lids(patch: Canvas, face: Face, person: Person, u: Array, v: Array) -> None:
    upper, lower = _lid_curves(face, person, u)
    width = EYE_HALF_WIDTH * face.eye_size
    around = np.exp(-((u / (1.25 * width)) ** 2) - ((v - 0.02) / 0.13) ** 2)
    patch.tint(0.55 * around, person.lid_tint)
    along = smoothstep(1.25, 0.7, np.abs(u) / width)
    crease = np.exp(-(((v - upper - 0.042 * face.eye_size) / 0.011) ** 2)) * along
    patch.tint(0.5 * crease, (0.55, 0.42, 0.40))
    bag = np.exp(-(((v - lower + 0.055) / 0.022) ** 2)) * along
    patch.height -= bag * (0.004 + 0.014 * person.wear)
    patch.tint(bag * (0.12 + 0.3 * person.wear), (0.72, 0.60, 0.62))
    patch.height += 0.012 * np.exp(-(((v - lower + 0.018) / 0.012) ** 2)) * along


def _paint_eyeball(
    patch: Canvas, face: Face, person: Person, u: Array, v: Array, side: int, gaze: tuple[float, float], noise: Noise
) -> None:
    upper, lower = _lid_curves(face, person, u)
    opening = patch.edge(np.maximum(v - upper, lower - v), 0.008)
    width = EYE_HALF_WIDTH * face.eye_size
    # A ball is darker to its sides, and the upper lid throws its shadow on it.
    shade = (1.0 - 0.30 * (u / width) ** 2) * mix(0.50, 1.0, smoothstep(0.0, 0.062, upper - v))
    ball = mix(SCLERA, PINK, smoothstep(-0.72 * width, -width, u)[..., None]) * shade[..., None]
    _paint_iris(ball, u - gaze[0], v - gaze[1], IRIS * face.eye_size, person, shade, patch.pixel, noise)
    _paint_catchlights(ball, (u - gaze[0]) * side, v - gaze[1], IRIS * face.eye_size, person, patch.pixel)
    patch.paint(opening, ball)
    patch.height *= 1.0 - opening
    patch.gloss *= 1.0 - 0.6 * opening


def _paint_iris(
    ball: Array, u: Array, v: Array, radius: float, person: Person, shade: Array, pixel: float, noise: Noise
) -> None:
    r = np.sqrt(u * u + v * v) / radius
    angle = np.arctan2(v, u)
    fibre = noise.line(angle * 9.0 + 40.0) * 0.6 + noise.line(angle * 21.0 + 90.0) * 0.4
    light = 0.75 + 0.35 * fibre * smoothstep(0.35, 0.6, r) + 0.55 * smoothstep(0.5, -0.9, v / radius)
    light = light * mix(1.0, 0.28, smoothstep(0.74, 0.98, r))  # the dark ring at the rim
    colour = linear(person.eye_rgb) * (light * mix(0.75, 1.0, shade))[..., None]
    edge = pixel / radius
    inside = smoothstep(1.0 + edge, 1.0 - edge, r)[..., None]
    ball += (colour - ball) * inside
    pupil = smoothstep(0.43 + edge, 0.43 - edge, r)[..., None]
    ball += (np.float32(0.004) - ball) * pupil


def _paint_catchlights(ball: Array, x: Array, v: Array, radius: float, person: Person, pixel: float) -> None:
    lean = 0.34 if person.light_side >= 0 else -0.34
    for cx, cy, size, strength in ((lean, 0.36, 0.25, 0.95), (-lean * 0.9, -0.42, 0.15, 0.35)):
        r = np.sqrt((x - cx * radius) ** 2 + (v - cy * radius) ** 2) - size * radius
        glint = np.clip(0.5 - r / (1.5 * pixel), 0.0, 1.0)[..., None] * strength
        ball += (np.float32(1.15) - ball) * glint


def _paint_lashes(patch: Canvas, face: Face, person: Person, u: Array, v: Array) -> None:
    upper, lower = _lid_curves(face, person, u)
    width = EYE_HALF_WIDTH * face.eye_size
    t = u / width
    reach = smoothstep(1.30 if person.lashes > 0.6 else 1.08, 0.95, t) * smoothstep(-1.08, -0.9, t)
    thick = (0.009 + 0.013 * person.lashes * smoothstep(-0.8, 0.9, t)) * reach
    # Past the outer corner the lash line continues upwards instead of following the lid down.
    line = np.where(t > 0.86, np.maximum(upper, 0.02 * person.lashes + 0.24 * (u - 0.86 * width)), upper)
    upper_line = patch.edge(np.abs(v - line - 0.5 * thick) - thick, 0.010) * reach
    patch.paint(0.92 * upper_line, INK)
    lower_line = np.exp(-(((v - lower + 0.004) / 0.009) ** 2)) * smoothstep(1.05, 0.8, np.abs(t))
    patch.tint((0.35 + 0.35 * person.lashes) * lower_line, (0.45, 0.34, 0.33))


def _paint_brow(patch: Canvas, person: Person, u: Array, v: Array, noise: Noise) -> None:
    start, end = -0.155, 0.245
    t = np.clip((u - start) / (end - start), 0.0, 1.0)
    middle = person.brow_height + person.brow_arch * (1.0 - ((t - 0.62) / 0.62) ** 2) + person.brow_tilt * (0.5 - t)
    thick = person.brow_thickness * (0.55 + 0.75 * np.sqrt(t)) * (1.0 - t**2.6) + 0.002
    hairs = noise.line((u - 0.55 * (v - middle)) * 60.0) * 0.006 + noise.line((u - 0.9 * (v - middle)) * 130.0) * 0.005
    ends = smoothstep(start - 0.03, start + 0.05, u) * smoothstep(end + 0.01, end - 0.05, u)
    mask = smoothstep(0.016, -0.016, np.abs(v - middle) - thick + hairs) * ends
    patch.paint(0.9 * mask, linear(person.brow_rgb) * (1.0 + 0.35 * hairs[..., None] / 0.011))
    patch.height += 0.008 * mask
