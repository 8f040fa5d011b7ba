"""Hair: its volume as a solid, and strands that run away from the crown."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import maximum_filter

from shards.synth.canvas import linear
from shards.synth.light import Light, shade
from shards.synth.noise import Noise
from shards.synth.person import Person
from shards.synth.solids import (
    Array,
    Box,
    Camera,
    Point,
    Solid,
    Surface,
    capsule,
    carve,
    ellipsoid,
    pick,
    smoothstep,
    sphere,
    turn,
    unite,
)

CROWN = (0.10, 0.80, -0.60)  # where strands begin, as a direction from the middle of the skull
PARTING = (-0.42, 0.84, 0.30)
SKULL = (0.0, 0.30, -0.14)
HAIR_SOFTNESS = (0.25, 0.22, 0.20)


@dataclass(frozen=True)
class Cut:
    """One hairstyle, in units of half a head.

    Attributes:
        thick: of the hair over the skull.
        tuft: centre and radii of more volume on top.
        locks: depth of the waves that part the hair into locks.
        curls: frequency and depth of curls, instead of locks.
        end: how far down hair hangs at the sides; hair without an end stops above the ears.
        lift: of the hairline.
    """

    thick: float = 0.10
    tuft: tuple[tuple[float, float, float], tuple[float, float, float]] | None = None
    locks: float = 0.022
    curls: tuple[float, float] | None = None
    end: float | None = None
    lift: float = 0.0
    crown: tuple[float, float, float] = CROWN


CUTS = {
    "buzz cut": Cut(0.022, locks=0.0),
    "short": Cut(0.06, tuft=((0.0, 0.88, 0.18), (0.56, 0.30, 0.58))),
    "side-parted": Cut(0.06, tuft=((0.22, 0.82, 0.22), (0.56, 0.36, 0.60)), lift=0.02, crown=PARTING),
    "quiff": Cut(0.05, tuft=((0.06, 1.02, 0.34), (0.48, 0.30, 0.42)), lift=0.05),
    "curly": Cut(0.17, curls=(13.0, 0.045)),
    "afro": Cut(0.38, curls=(24.0, 0.028), lift=0.03),
    "bun": Cut(0.055, locks=0.010),
    "pigtails": Cut(0.07, locks=0.010),
    "bob": Cut(locks=0.012, end=-0.78),
    "shoulder-length": Cut(end=-1.10),
    "long straight": Cut(locks=0.014, end=-1.75),
    "long wavy": Cut(end=-1.75),
}


def hair_solid(person: Person, turned: Array) -> Solid | None:
    """The hair in view coordinates, or None for a bald head."""
    if person.hair == "bald":
        return None
    cut = CUTS[person.hair]

    def distance(point: Point) -> Array:
        point = turn(turned.T, point)
        volume = _volume(person, cut, point)
        if cut.curls:
            return volume + _curls(*cut.curls, point)
        return volume + _locks(person, cut, point) if cut.locks else volume

    return distance


def hair_box(person: Person, camera: Camera) -> Box:
    """The window that holds the hair."""
    if CUTS[person.hair].end is not None or person.hair == "pigtails":
        swing = 1.8 * abs(float(np.sin(np.deg2rad(person.roll))))
        return Box.around(camera, 0.0, -0.3, 1.15 + swing, 1.8)
    if CUTS[person.hair].curls or person.hair == "bun":
        return Box.around(camera, 0.0, 0.45, 1.35, 1.35)
    return Box.around(camera, 0.0, 0.5, 1.15, 0.95)


def _volume(person: Person, cut: Cut, point: Point) -> Array:
    x, y, z = point
    mirrored = (np.abs(x), y, z)
    hair = ellipsoid(
        point, (0.0, 0.30 + 0.25 * cut.thick, -0.16), (0.80 + cut.thick, 0.84 + cut.thick, 0.94 + 0.9 * cut.thick)
    )
    if cut.tuft:
        hair = unite(hair, ellipsoid(point, *cut.tuft), 0.13)
    hair = carve(hair, _face_opening(person, cut, point), 0.20)
    if cut.end is not None:
        hair = unite(hair, _curtains(person, cut.end, mirrored), 0.14)
    if person.fringe == "yes":
        hair = unite(hair, _fringe(person, point), 0.05)
    if person.hair == "bun":
        hair = unite(hair, sphere(point, (0.0, 1.30, -0.30), 0.30), 0.06)
    if person.hair == "pigtails":
        hair = unite(hair, ellipsoid(mirrored, (0.95, -0.10, -0.18), (0.22, 0.46, 0.24)), 0.12)
    return hair


def _face_opening(person: Person, cut: Cut, point: Point) -> Array:
    """What is cut out of the hair for the face and, under short hair, for the ears and the neck."""
    x, y, z = point
    receding = {"middle-aged": 0.03, "old": 0.08}.get(person.age, 0.0) if person.masculine else 0.0
    jagged = 0.014 * np.sin(17.0 * x + person.lot + 2.0 * np.sin(9.0 * x - person.lot))
    top, bottom = 0.60 + receding + cut.lift + jagged, -1.5
    wide = 0.70 if cut.end is None else 0.66
    u, v = x / wide, (2.0 * y - top - bottom) / (top - bottom)
    u, v = u * u, v * v
    opening = ((u * u + v * v) ** 0.25 - 1.0) * wide * 0.9
    opening = np.maximum(opening, 0.05 - z)
    if cut.end is not None:
        return opening
    above_ears = -0.28 if cut.curls else 0.08
    below = y - above_ears + 0.35 * np.minimum(z + 0.25, 0.0)
    return unite(opening, below, 0.10)


def _curtains(person: Person, end: float, mirrored: Point) -> Array:
    x, y, z = mirrored
    if person.hair == "long wavy":
        x = x + 0.055 * np.sin(6.5 * y + 0.8) * smoothstep(0.2, -0.4, y)
    side = capsule((x, y, z), (0.66, 0.40, -0.16), (0.84, end + 0.2, -0.06), 0.17, 0.20)
    back = ellipsoid((x, y, z), (0.0, (0.5 + end) / 2, -0.72), (0.92, (0.9 - end) / 2, 0.45))
    return unite(side, back, 0.15)


def _fringe(person: Person, point: Point) -> Array:
    x, y, z = point
    shell = ellipsoid(point, (0.0, 0.24, -0.10), (0.87, 0.93, 1.065))
    edge = 0.25 + 0.025 * np.sin(24.0 * x + person.lot + 3.0 * np.sin(11.0 * x - person.lot)) + 0.16 * x * x
    return np.maximum(np.maximum(shell, edge - y), 0.25 - z)


def _curls(frequency: float, depth: float, point: Point) -> Array:
    x, y, z = (frequency * part for part in point)
    bend = 0.5 * np.sin(0.45 * y + 1.0)
    across = np.sin(x + bend) * np.sin(y + 2.0 * bend)
    return depth * (across + np.sin(z + 1.3 * x / frequency) * np.cos(0.8 * (x + y)))


def _locks(person: Person, cut: Cut, point: Point) -> Array:
    angle, spread = _meridian(cut, point)
    wave = np.sin(9.0 * angle + person.lot + 2.0 * np.sin(4.0 * angle - person.lot))
    return cut.locks * smoothstep(0.0, 0.4, spread) * wave  # all angles meet at the crown: no waves there


def _axis(cut: Cut) -> Array:
    return np.array(cut.crown, dtype=np.float32) / np.float32(np.linalg.norm(cut.crown))


def _meridian(cut: Cut, point: Point) -> tuple[Array, Array]:
    """The angle around the crown of each point, which is constant along a strand, and its distance from that axis."""
    axis = _axis(cut)
    sideways = np.array([axis[1], -axis[0], 0.0], dtype=np.float32)
    sideways /= np.linalg.norm(sideways)
    forward = np.cross(sideways, axis)  # so that the seam of the angle lies behind, out of sight
    x, y, z = (p - c for p, c in zip(point, SKULL))
    across = x * sideways[0] + y * sideways[1]
    along = x * forward[0] + y * forward[1] + z * forward[2]
    return np.arctan2(across, along), np.sqrt(across * across + along * along)


def shade_hair(
    person: Person, surface: Surface, turned: Array, light: Light, shadow: Array, openness: Array, noise: Noise
) -> Array:
    """Linear colour of the hair, `[h, w, 3]`, with the two highlights of Kajiya and Kay (1989)."""
    cut, seen = CUTS[person.hair], maximum_filter(surface.cover, 5) > 0.0
    point = turn(turned.T, pick(surface.point, seen))
    normal, shadow, openness = pick(surface.normal, seen), shadow[seen], openness[seen]
    strands = _strands(person, cut, point, noise)
    base = linear(person.hair_rgb)
    colour = base * np.clip(0.88 + 0.42 * strands, 0.2, 2.0)[..., None]
    result = np.zeros(surface.cover.shape + (3,), dtype=np.float32)
    x, y, z = _axis(cut)
    sheen = _sheen(cut, base, normal, turn(turned, (x, y, z)), light, strands) * (shadow * openness)[..., None]
    result[seen] = shade(light, normal, colour, shadow, openness, 0.0, HAIR_SOFTNESS) + sheen
    return result


def _is_frizzy(cut: Cut) -> bool:
    return cut.curls is not None or cut.locks == 0.0


def _strands(person: Person, cut: Cut, point: Point, noise: Noise) -> Array:
    """Lighter and darker strands, about -1…1."""
    x, y, z = point
    if _is_frizzy(cut):
        coarse = noise.plane(x * 26.0 + 3.0 * z, y * 26.0 - 4.0 * z)
        return 0.6 * coarse + 0.5 * noise.plane(x * 60.0 + 8.0 * z, y * 60.0)
    angle, _ = _meridian(cut, point)
    wavy = person.hair == "long wavy"
    t = angle + (0.05 * np.sin(6.5 * y + 1.5) if wavy else 0.02 * noise.line(y * 3.0 + angle * 2.0))
    fine = 0.32 * noise.line(t * 70.0 + 9.0 * y) + 0.30 * noise.line(t * 150.0 + 500.0)
    return 0.45 * noise.line(t * 26.0) + fine


def _sheen(cut: Cut, base: Array, normal: Point, crown: Point, light: Light, strands: Array) -> Array:
    x, y, z = normal
    across = x * crown[0] + y * crown[1] + z * crown[2]
    strand = tuple(c - across * n for c, n in zip(crown, normal))
    length = np.sqrt(sum(part * part for part in strand)) + 1e-4
    half = light.key[0], light.key[1], light.key[2] + 1.0
    size = float(np.sqrt(sum(part * part for part in half)))
    along = sum(s * h for s, h in zip(strand, half)) / (length * size)
    facing = smoothstep(-0.1, 0.5, x * light.key[0] + y * light.key[1] + z * light.key[2])
    facing = facing * (0.35 if _is_frizzy(cut) else 1.0)
    result = np.zeros(x.shape + (3,), dtype=np.float32)
    # The first highlight has the lamp's colour; the second, wider one has passed through the hair and has its colour.
    own = light.key_colour * (1.6 * base + 0.06)
    lamps = 0.35 * light.key_colour + 0.45 * own
    for shift, power, strength, colour in ((0.05, 30.0, 0.16, lamps), (-0.12, 7.0, 0.22, own)):
        moved = np.clip(along + shift + 0.16 * strands, -1.0, 1.0)
        result += (np.maximum(1.0 - moved * moved, 0.0) ** power * facing * strength)[..., None] * colour
    return result
