"""Neck and shoulders, and what is worn on them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from shards.synth.canvas import linear
from shards.synth.person import Person
from shards.synth.solids import Array, Point, Solid, capsule, ellipsoid, turn, unite

FOOT = (0.0, -1.26, -0.40)  # of the neck, in view coordinates before the shoulders lean
COLLARS = {"t-shirt": (0.50, 0.035), "jumper": (0.50, 0.065), "hoodie": (0.60, 0.14)}  # radius, thickness of the ring
FLAT = np.float32(1.0)  # a distance that is nowhere negative


@dataclass
class Cloth:
    """The look of the shoulders: `colour` `[h, w, 3]` (linear), relief `height` and share of bare `skin` `[h, w]`."""

    colour: Array
    height: Array
    skin: Array


def neck_solid(person: Person, turned: Array, leaning: Array) -> Solid:
    """The neck in view coordinates: its upper end turns with the head, its foot stays on the shoulders."""
    top, foot = turn(turned, (0.0, -0.45, -0.34)), turn(leaning, FOOT)
    width = 0.36 * person.shape.neck

    def distance(point: Point) -> Array:
        return capsule(point, top, foot, width, width * 1.14)

    return distance


def torso_solid(person: Person, leaning: Array) -> Solid:
    """Shoulders and chest with the collar, in view coordinates."""
    wide = {"man": 1.34, "woman": 1.10}.get(person.person, 0.84)
    bare = {"man": 0.36, "woman": 0.30}.get(person.person, 0.28)
    thick = bare + {"hoodie": 0.06, "suit": 0.06, "jumper": 0.03}.get(person.clothes, 0.0)

    def distance(point: Point) -> Array:
        point = turn(leaning.T, point)
        x, y, z = point
        mirrored = (np.abs(x), y, z)
        body = capsule(mirrored, (0.0, -1.66, -0.44), (wide, -1.86, -0.48), thick, thick)
        body = unite(body, capsule(mirrored, (wide, -1.90, -0.48), (wide + 0.12, -3.2, -0.40), thick, thick), 0.10)
        body = unite(body, capsule(point, (0.0, -1.18, -0.48), (0.0, -1.83, -0.42), 0.22, 0.58), 0.45)
        body = unite(body, ellipsoid(point, (0.0, -2.48, -0.30), (wide * 1.05, 1.05, 0.52 + thick - bare)), 0.25)
        if person.clothes in COLLARS:
            body = unite(body, _ring(body, point, *COLLARS[person.clothes]), 0.04)
        if person.clothes == "turtleneck":
            body = unite(body, capsule(point, (0.0, -1.08, -0.36), (0.0, -1.55, -0.42), 0.40, 0.48), 0.08)
        return body + 0.012 * np.sin(7.0 * x + 5.0 * y) * np.sin(3.0 * x - 4.0 * y)

    return distance


def _ring(body: Array, point: Point, radius: float, thickness: float) -> Array:
    """A tube along the line where the shoulders meet an upright cylinder around the neck."""
    ring = np.sqrt(body * body + (_from_neck(point) - radius) ** 2) - thickness
    return 0.65 * ring  # the two distances may grow together, faster than a true distance does


def _from_neck(point: Point) -> Array:
    """Distance from the neck's upright axis."""
    x, _, z = point
    return np.sqrt(x * x + (z + 0.42) ** 2)


def paint_clothes(person: Person, point: Point, leaning: Array, pixel: float) -> Cloth:
    """The look of the shoulders' points, given in view coordinates; `pixel` is a pixel's side in units."""
    point = turn(leaning.T, point)
    x, y, _ = point
    folds = 0.02 * np.sin(2.5 * x + person.lot + 2.0 * np.sin(2.0 * y + x))
    cloth = Cloth(np.empty(x.shape + (3,), dtype=np.float32), folds, skin=np.zeros(x.shape, dtype=np.float32))
    cloth.colour[:] = linear(person.clothes_rgb)
    if person.clothes in _TAILORS:
        _TAILORS[person.clothes](person, cloth, point, pixel)
    cloth.skin = _inside(_neckline(person, point), pixel)
    return cloth


def _inside(distance: Array, pixel: float) -> Array:
    return np.clip(0.5 - distance / pixel, 0.0, 1.0)


def _lay(cloth: Cloth, distance: Array, colour: Array, pixel: float, rise: float = 0.0) -> None:
    """Lay a patch of `colour` where `distance` is negative; `rise` lifts it off the cloth below: it gets an edge."""
    cloth.colour += (colour - cloth.colour) * _inside(distance, pixel)[..., None]
    cloth.height += rise * _inside(distance, 0.03)


def _neckline(person: Person, point: Point) -> Array:
    """A distance that is negative where the clothes leave the skin bare."""
    x, y, _ = point
    u = np.abs(x)
    if person.clothes in COLLARS:
        radius, thickness = COLLARS[person.clothes]
        return _from_neck(point) - radius + 0.8 * thickness
    if person.clothes == "top":
        strap = 0.62
        scoop = np.sqrt((u / strap) ** 4 + np.minimum((y + 1.18) / 0.80, 0.0) ** 4) - 1.0
        return np.minimum(0.6 * scoop, strap + 0.16 - u)
    if person.clothes == "shirt":
        down = -1.36 - y
        return np.maximum(u - 0.30 + 0.85 * down, -down - 0.4)
    return np.full_like(x, FLAT)


def _knit(person: Person, cloth: Cloth, point: Point, pixel: float) -> None:
    cloth.height += 0.006 * np.abs(np.sin(point[0] * 38.0))


def _print_stripes(person: Person, cloth: Cloth, point: Point, pixel: float) -> None:
    if person.pattern == "striped":
        _, y, z = point
        pale = linear([0.25 * part + 180.0 for part in person.clothes_rgb])
        _lay(cloth, (np.abs(((y - 0.2 * z) * 5.0) % 1.0 - 0.5) - 0.24) / 5.0, pale, pixel)


def _button_up(person: Person, cloth: Cloth, point: Point, pixel: float) -> None:
    x, y, _ = point
    u, down = np.abs(x), -1.36 - y
    flap = np.maximum(np.maximum(u - 0.56 + 0.25 * down, down - 0.42 + 0.35 * u), 0.27 - 0.85 * down - u)
    _lay(cloth, flap, linear(person.clothes_rgb) * 1.12, pixel, rise=0.03)
    _lay(cloth, np.maximum(u - 0.006, 0.40 - down), linear(person.clothes_rgb) * 0.6, pixel)


def _dress_up(person: Person, cloth: Cloth, point: Point, pixel: float) -> None:
    """A suit: white shirt, a tie in the background's colour, and lapels."""
    x, y, _ = point
    u, down = np.abs(x), -1.32 - y
    _lay(cloth, u - 0.44 + 0.30 * down, linear((236, 236, 234)), pixel)
    cloth.height += 0.03 * _inside(np.maximum(u - 0.42 + 0.1 * down, down - 0.42 + 0.5 * u), 0.03)
    tie = np.maximum(u - 0.05 - 0.05 * np.clip(down - 0.3, 0.0, 1.0), 0.16 - down)
    knot = np.maximum(u - 0.085 + 0.10 * np.clip(down - 0.16, 0.0, 0.3), np.abs(down - 0.24) - 0.09)
    _lay(cloth, np.minimum(tie, knot), linear(person.background_rgb) * 0.5, pixel)
    lapel = np.maximum(u - 0.74 + 0.22 * down, 0.44 - 0.30 * down - u)
    _lay(cloth, lapel, linear(person.clothes_rgb) * 1.25, pixel, rise=0.03)


def _hang_cords(person: Person, cloth: Cloth, point: Point, pixel: float) -> None:
    x, y, _ = point
    cord = np.maximum(np.abs(np.abs(x) - 0.17 - 0.02 * np.sin(6.0 * y)) - 0.016, np.maximum(y + 1.72, -2.28 - y))
    _lay(cloth, cord, linear((232, 228, 220)), pixel, rise=0.02)


_TAILORS: dict[str, Callable[[Person, Cloth, Point, float], None]] = {
    "jumper": _knit,
    "t-shirt": _print_stripes,
    "shirt": _button_up,
    "suit": _dress_up,
    "hoodie": _hang_cords,
}
