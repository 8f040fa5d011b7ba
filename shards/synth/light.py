"""Light on a surface: one main lamp, sky and ground, a rim light from behind, and what stands in the way of each."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import maximum_filter

from shards.synth.canvas import linear
from shards.synth.person import Person
from shards.synth.solids import Array, Point, Solid, Surface, enlarge, pick, smoothstep


@dataclass(frozen=True)
class Light:
    """Directions are unit vectors towards the lamp in view coordinates, colours linear light."""

    key: tuple[float, float, float]
    key_colour: Array
    rim: tuple[float, float, float]
    rim_colour: Array
    sky: Array
    ground: Array


def _unit(x: float, y: float, z: float) -> tuple[float, float, float]:
    length = float(np.sqrt(x * x + y * y + z * z))
    return x / length, y / length, z / length


def light_of(person: Person) -> Light:
    """The lamps for this person. The background's colour fills the shadows, so that both belong together."""
    warm, cool, white = np.array([(1.0, 0.80, 0.58), (0.82, 0.92, 1.08), (1.0, 0.96, 0.90)], dtype=np.float32)
    tone = {"warm": warm, "cool": cool}.get(person.light, white)
    room = linear(person.background_rgb)
    side = person.light_side
    hard = 1.22 if person.light in ("left", "right") else 1.0
    return Light(
        key=_unit(0.85 * side + 0.12, 0.62, 0.80),
        key_colour=tone * (0.95 * hard),
        rim=_unit(-0.9 if side >= 0 else 0.9, 0.35, -0.45),
        rim_colour=(0.35 + 0.65 * room) * 0.9,
        sky=(0.34 + 0.30 * room) * (2.0 - hard) * (0.5 + 0.5 * tone),
        ground=(0.10 + 0.22 * room) * (2.0 - hard),
    )


def shade(
    light: Light,
    normal: Point,
    colour: Array,
    shadow: Array,
    openness: Array,
    gloss: Array | float,
    softness: Sequence[Array | float],
    sharpness: float = 24.0,
) -> Array:
    """The light that a surface sends to the viewer, linear, `[h, w, 3]`.

    Args:
        normal: unit normals in view coordinates, three `[h, w]`.
        colour: `[h, w, 3]`, the share of the light that the surface gives back.
        shadow: 0 where the main lamp is hidden, 1 where it is seen.
        openness: the share of the sky that is seen (ambient occlusion).
        softness: how far red, green and blue creep past the edge of the light: skin lets red through.
    """
    x, y, z = normal
    facing = x * light.key[0] + y * light.key[1] + z * light.key[2]
    up = 0.5 + 0.5 * y
    half = _unit(light.key[0], light.key[1], light.key[2] + 1.0)
    sheen = np.clip(x * half[0] + y * half[1] + z * half[2], 0.0, 1.0) ** sharpness * gloss * shadow
    rim = np.clip(x * light.rim[0] + y * light.rim[1] + z * light.rim[2], 0.0, 1.0)
    rim = rim * smoothstep(0.55, 0.05, z) * openness
    result = np.empty(colour.shape, dtype=np.float32)
    for channel in range(3):
        wrap = softness[channel]
        lit = np.clip((facing + wrap) / (1.0 + wrap), 0.0, 1.0) * (wrap * 0.8 + (1.0 - wrap * 0.8) * shadow)
        ambient = (light.ground[channel] + (light.sky[channel] - light.ground[channel]) * up) * openness
        diffuse = lit * light.key_colour[channel] + ambient + rim * light.rim_colour[channel]
        result[..., channel] = colour[..., channel] * diffuse + (sheen + 0.05 * rim) * light.key_colour[channel]
    return result


def obstruction(scene: Solid, light: Light, surface: Surface) -> tuple[Array, Array]:
    """How freely each point sees the main lamp and the sky, both 0…1.

    Computed at a quarter size: shadows under a soft light have no sharp edge. Both follow the distance field along a
    line, as in https://iquilezles.org/articles/rmshadows.
    """
    quarter = (slice(2, None, 4), slice(2, None, 4))
    seen = maximum_filter(surface.cover[quarter], 3) > 0.0
    point, normal = (pick(pick(points, quarter), seen) for points in (surface.point, surface.normal))
    shadow, openness = np.ones_like(point[0]), np.ones_like(point[0])
    for reach in (0.08, 0.24, 0.60):
        x, y, z = (p + 0.05 * n + reach * k for p, n, k in zip(point, normal, light.key))
        shadow = np.minimum(shadow, 0.5 + 0.5 * scene((x, y, z)) / (0.42 * reach))
    for reach, weight in ((0.08, 0.55), (0.30, 0.45)):
        x, y, z = (p + reach * n for p, n in zip(point, normal))
        openness -= weight * np.clip(1.0 - scene((x, y, z)) / reach, 0.0, 1.0)
    return (_spread(0.15 + 0.85 * smoothstep(0.0, 1.0, shadow), seen), _spread(np.maximum(openness, 0.25), seen))


def _spread(values: Array, seen: Array) -> Array:
    small = np.ones(seen.shape, dtype=np.float32)
    small[seen] = values
    return enlarge(small, 4)


def bend(normal: Point, height: Array, scale: float) -> Point:
    """The normal of a surface with the relief `height` (units) on it, seen at `scale` pixels to the unit."""
    down, right = np.gradient(height * scale)
    # A jump in depth is not a slope of the relief, however steep it looks from here.
    x, y, z = normal[0] - np.clip(right, -1.0, 1.0), normal[1] + np.clip(down, -1.0, 1.0), normal[2]
    length = np.sqrt(x * x + y * y + z * z)
    return x / length, y / length, z / length
