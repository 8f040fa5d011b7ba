"""Nose shadows, lips and teeth, painted on the skin."""

import numpy as np

from shards.synth.canvas import Canvas, linear
from shards.synth.head import Face
from shards.synth.person import Person
from shards.synth.solids import Array, mix, smoothstep

MOUTH_HALF_WIDTH = 0.275
TEETH = linear((240, 234, 222))
MOUTH_DARK = linear((70, 22, 24))


def paint_nose(skin: Canvas, face: Face) -> None:
    """Darken the nostrils, and cut the groove between nose and upper lip."""
    patch = skin.patch(0.0, face.nose_base, 0.9, 0.26, 0.2)
    x, y = np.abs(patch.point[0]), patch.point[1]
    width = face.nose_width
    nostril = np.exp(-(((x - 0.066 * width) / (0.026 * width)) ** 2) - ((y - face.nose_base + 0.058) / 0.015) ** 2)
    patch.tint(0.85 * nostril, (0.34, 0.19, 0.17))
    wing = np.sqrt((x - 0.115 * width) ** 2 + (y - face.nose_base - 0.005) ** 2)
    crease = np.exp(-(((wing - 0.075 * width) / 0.012) ** 2)) * smoothstep(0.10, 0.16, x / width)
    patch.tint(0.15 * crease, (0.6, 0.42, 0.38))
    low, high = face.mouth + 0.10, face.nose_base - 0.08
    between = smoothstep(low - 0.02, low + 0.03, y) * smoothstep(high + 0.03, high - 0.03, y)
    patch.height -= 0.012 * np.exp(-((x / 0.032) ** 2)) * between


def paint_mouth(skin: Canvas, face: Face, person: Person) -> None:
    """Draw lips and, where the person laughs, the teeth between them."""
    patch = skin.patch(0.0, face.mouth, 0.8, 0.42, 0.26)
    width = MOUTH_HALF_WIDTH * face.mouth_width * (1.0 + 0.16 * max(person.smile, 0.0))
    u = patch.point[0] / width
    v = patch.point[1] - face.mouth - (0.075 * person.smile) * (u * u - 0.35)
    v = v + 0.007 * np.exp(-((u / 0.16) ** 2))  # the line between the lips dips in its middle
    inside = np.maximum(1.0 - u * u, 0.0)
    gap_up = 0.042 * person.laugh * np.sqrt(inside)
    gap_down = 0.085 * person.laugh * inside
    bow = 1.0 - 0.26 * np.exp(-((u / 0.15) ** 2)) + 0.10 * np.exp(-(((np.abs(u) - 0.26) / 0.14) ** 2))
    upper = gap_up + 0.064 * face.lips * inside**0.75 * bow
    lower = gap_down + 0.086 * face.lips * inside**0.62
    _paint_lips(patch, person, u, v, (gap_up, gap_down), (upper, lower))
    if person.laugh > 0.0:
        _paint_teeth(patch, u, v, gap_up, gap_down, person.laugh)
    line = np.exp(-((v / 0.0085) ** 2)) * smoothstep(1.10, 0.92, np.abs(u)) * (1.0 - min(4.0 * person.laugh, 1.0))
    patch.tint(0.80 * line, (0.26, 0.13, 0.13))
    corner = np.exp(-(((np.abs(u) - 1.02) / 0.07) ** 2) - (v / 0.022) ** 2)
    patch.tint(0.50 * corner, (0.45, 0.30, 0.28))


def _paint_lips(
    patch: Canvas, person: Person, u: Array, v: Array, gaps: tuple[Array, Array], edges: tuple[Array, Array]
) -> None:
    ends = smoothstep(1.0, 0.90, np.abs(u))
    upper = patch.edge(np.maximum(v - edges[0], -v), 0.020) * ends
    lower = patch.edge(np.maximum(-v - edges[1], v), 0.024) * ends
    colour = linear(person.lip_rgb)
    patch.paint(person.lip_strength * upper, colour * 0.82)
    patch.paint(person.lip_strength * lower, colour)
    # A rounded section for each lip, and the soft hollow under the lower one.
    rise_up = np.clip((v - gaps[0]) / np.maximum(edges[0] - gaps[0], 1e-3), 0.0, 1.0)
    rise_down = np.clip((-v - gaps[1]) / np.maximum(edges[1] - gaps[1], 1e-3), 0.0, 1.0)
    fade = smoothstep(1.0, 0.55, np.abs(u))
    patch.height += (
        0.016
        * fade
        * np.where(v > 0.0, 4.0 * rise_up * (1.0 - rise_up) * upper, 1.5 * 4.0 * rise_down * (1.0 - rise_down) * lower)
    )
    patch.height -= 0.022 * np.exp(-(((v + edges[1] + 0.045) / 0.035) ** 2) - (u / 0.6) ** 2)
    patch.gloss += (0.10 + 0.25 * person.lip_gloss) * (lower + 0.4 * upper)


def _paint_teeth(patch: Canvas, u: Array, v: Array, gap_up: Array, gap_down: Array, laugh: float) -> None:
    opening = patch.edge(np.maximum(v - gap_up, -v - gap_down), 0.010) * smoothstep(1.0, 0.93, np.abs(u))
    patch.paint(opening, MOUTH_DARK)
    teeth_end = -0.058 * laugh - 0.012 + 0.02 * u * u
    teeth = opening * patch.edge(teeth_end - v, 0.014) * smoothstep(1.0, 0.8, np.abs(u))
    # Each tooth is a little narrower than the one before, seen round the bend of the jaw.
    seam = np.abs(np.sin(np.pi * (np.arcsin(np.clip(u, -1.0, 1.0)) * 3.6)))
    shade = (1.0 - 0.45 * u * u) * mix(0.62, 1.0, smoothstep(0.0, 0.03, gap_up - v))
    shade = shade * mix(0.86, 1.0, smoothstep(0.0, 0.3, seam))
    patch.paint(teeth, TEETH * shade[..., None])
    patch.height *= 1.0 - opening
    patch.gloss *= 1.0 - opening
