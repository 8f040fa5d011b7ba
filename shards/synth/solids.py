"""Signed distance fields and a camera that sees them: the few solids from which every portrait is built.

A solid is a function from a point to its distance from the surface: negative inside, positive outside. Points are
three arrays of one shape, x to the image's right, y up, z towards the viewer. One unit is about half a head.
The shapes and the smooth union are Inigo Quilez's, https://iquilezles.org/articles/distfunctions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from PIL import Image

Array = np.ndarray
Point = tuple[Array, Array, Array]
Solid = Callable[[Point], Array]
Number = TypeVar("Number", float, Array)

SIZE = 512  # a portrait's side in pixels
MARCH_STEPS = 28
STRIDE = 1.25  # steps a little longer than the distance save a third of them; a signed distance finds its way back
CLOSE_ENOUGH = 0.002  # units; a quarter of a pixel at the usual scale
CREEP = 0.002  # units; the n-th step forward is at least n times that, lest a ray that grazes the surface gets stuck
PASSED = 0.18  # units; a ray that has come closer than this before is on its way out
FAR = -1e3  # the depth of what no ray has met


def smoothstep(low: Array | float, high: Array | float, value: Array) -> Array:
    """Rise from 0 at `low` to 1 at `high` without a corner at either end; `low` > `high` falls instead."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def mix(a: Array | float, b: Array | float, share: Array) -> Array:
    """`a` where `share` is 0, `b` where it is 1."""
    return a + (b - a) * share


def ellipsoid(point: Point, centre: tuple, radii: tuple) -> Array:
    """Distance to an ellipsoid: exact on the surface, a good bound near it."""
    squares, steepness = 0.0, 0.0
    for p, c, r in zip(point, centre, radii):
        share = (p - c) * (1.0 / r)
        share *= share
        squares = squares + share
        steepness = steepness + share * (1.0 / (r * r))
    length = np.sqrt(squares)
    return length * (length - 1.0) / np.sqrt(steepness + 1e-8)


def sphere(point: Point, centre: tuple, radius: float) -> Array:
    x, y, z = (p - c for p, c in zip(point, centre))
    return np.sqrt(x * x + y * y + z * z) - radius


def capsule(point: Point, start: tuple, end: tuple, start_radius: float, end_radius: float) -> Array:
    """Distance to a thick line whose radius changes evenly from `start` to `end`."""
    a, b, c = (float(e - s) for s, e in zip(start, end))
    square = a * a + b * b + c * c
    x, y, z = (p - s for p, s in zip(point, start))
    along = x * (a / square) + y * (b / square) + z * (c / square)
    along = np.minimum(np.maximum(along, 0.0), 1.0)
    x, y, z = x - along * a, y - along * b, z - along * c
    return np.sqrt(x * x + y * y + z * z) - (start_radius + (end_radius - start_radius) * along)


def unite(a: Array, b: Array, blend: float) -> Array:
    """The union of two solids, flowing into each other over `blend` units."""
    overlap = np.maximum(blend - np.abs(a - b), 0.0)
    return np.minimum(a, b) - overlap * overlap * (0.25 / blend)


def carve(a: Array, b: Array, blend: float) -> Array:
    """Solid `a` with `b` taken out of it, the rim rounded over `blend` units."""
    return -unite(-a, b, blend)


@dataclass(frozen=True)
class Camera:
    """Parallel rays along −z. View coordinates have the head's centre at their origin.

    Attributes:
        scale: pixels in one unit.
        centre: the head's centre (x, y) in pixels of the portrait, y down.
    """

    scale: float
    centre: tuple[float, float]

    def pixel(self, x: Number, y: Number) -> tuple[Number, Number]:
        """View coordinates to pixel coordinates; a pixel's middle lies at a whole number."""
        return self.centre[0] + self.scale * x, self.centre[1] - self.scale * y

    def rays(self, box: "Box", step: int = 1) -> tuple[Array, Array]:
        """The x and y, `[h, w]` each, of the rays through every pixel of `box`, or through blocks of `step` pixels."""
        middle = (step - 1) / 2
        columns = np.arange(box.left, box.right, step, dtype=np.float32) + middle
        rows = np.arange(box.top, box.bottom, step, dtype=np.float32) + middle
        x, y = (columns - self.centre[0]) / self.scale, (self.centre[1] - rows) / self.scale
        x, y = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
        return x, y


@dataclass(frozen=True)
class Box:
    """A window of the portrait in pixels; its sides are multiples of four, so that it halves and quarters evenly."""

    top: int
    bottom: int
    left: int
    right: int

    @classmethod
    def around(cls, camera: Camera, x: float, y: float, half_width: float, half_height: float) -> "Box":
        """The window that holds a rectangle given in view units, cut to the portrait."""
        column, row = camera.pixel(x, y)
        sides = (
            row - half_height * camera.scale,
            row + half_height * camera.scale,
            column - half_width * camera.scale,
            column + half_width * camera.scale,
        )
        top, bottom, left, right = (int(np.clip(4 * round(side / 4), 0, SIZE)) for side in sides)
        return cls(top, max(bottom, top), left, max(right, left))

    @property
    def window(self) -> tuple[slice, slice]:
        return slice(self.top, self.bottom), slice(self.left, self.right)

    @property
    def shape(self) -> tuple[int, int]:
        return self.bottom - self.top, self.right - self.left


@dataclass
class Surface:
    """What the camera sees of one solid inside `box`; every array is `[h, w]` at full size.

    Attributes:
        point: where each ray meets the solid, or passes it closest, in view coordinates.
        normal: the outward unit normal there.
        cover: the share of the pixel that the solid fills, 0…1.
    """

    box: Box
    point: Point
    normal: Point
    cover: Array


def enlarge(small: Array, times: int) -> Array:
    """`[h, w]` to `[times·h, times·w]`, linearly between the samples."""
    height, width = small.shape
    image = Image.fromarray(np.ascontiguousarray(small, dtype=np.float32))
    return np.asarray(image.resize((width * times, height * times), Image.Resampling.BILINEAR))


def trace(solid: Solid, camera: Camera, box: Box, nearest: float, farthest: Array) -> Surface:
    """Follow the rays through `box` from depth z = `nearest` to `farthest` (`[h, w]`) until they meet `solid`.

    The shape is found at half size, where it is smooth anyway; only the rays along its outline, whose pixels are
    partly covered, are followed at full size.
    """
    x, y = camera.rays(box, step=2)
    depth, distance = _march(solid, x.ravel(), y.ravel(), nearest, farthest[::2, ::2].ravel())
    depth, distance = depth.reshape(x.shape), distance.reshape(x.shape)
    normal = [enlarge(part, 2) for part in _normals(solid, (x, y, depth), near=distance < 4.0 / camera.scale)]
    length = np.maximum(np.sqrt(sum(part * part for part in normal)), 1e-6)
    depth_full = enlarge(depth, 2)
    cover = enlarge((distance <= CLOSE_ENOUGH).astype(np.float32), 2)
    edge = (cover < 1.0) & (enlarge(np.minimum(distance, 1.0), 2) < 2.5 / camera.scale)
    x, y = camera.rays(box)
    depth_full, cover = _sharpen_outline(solid, camera, (x, y, depth_full), cover, edge, farthest)
    return Surface(box, (x, y, depth_full), (normal[0] / length, normal[1] / length, normal[2] / length), cover)


def _march(solid: Solid, x: Array, y: Array, nearest: float, farthest: Array) -> tuple[Array, Array]:
    """Sphere tracing. Gives, for each ray, the depth and the distance of its point closest to the solid."""
    depths, distances = np.full_like(x, nearest), np.full_like(x, np.inf)
    ray, z, limit = np.arange(x.size), depths.copy(), farthest
    best_z, best = depths.copy(), distances.copy()
    for step in range(MARCH_STEPS):
        signed = solid((x, y, z))
        distance = np.abs(signed)
        closer = distance < best
        np.copyto(best, distance, where=closer)
        np.copyto(best_z, z, where=closer)
        stride = STRIDE * signed
        np.maximum(stride, CREEP * step, out=stride, where=signed > 0.0)
        z = z - stride
        going = (distance > CLOSE_ENOUGH) & (z > limit) & (signed < best + PASSED)
        if step == MARCH_STEPS - 1:
            going[:] = False
        depths[ray[~going]], distances[ray[~going]] = best_z[~going], best[~going]
        ray = ray[going]
        x, y, z, limit, best_z, best = (part[going] for part in (x, y, z, limit, best_z, best))
        if not ray.size:
            break
    return depths, distances


def _normals(solid: Solid, point: Point, near: Array, reach: float = 0.004) -> list[Array]:
    """The solid's unit gradient by forward differences where `near` is true; elsewhere it is towards the viewer."""
    x, y, z = (part[near] for part in point)
    here = solid((x, y, z))
    gradient = [solid(moved) - here for moved in ((x + reach, y, z), (x, y + reach, z), (x, y, z + reach))]
    length = np.maximum(np.sqrt(sum(part * part for part in gradient)), 1e-6)
    result = [np.zeros(near.shape, np.float32), np.zeros(near.shape, np.float32), np.ones(near.shape, np.float32)]
    for axis, part in zip(result, gradient):
        axis[near] = part / length
    return result


def _sharpen_outline(
    solid: Solid, camera: Camera, point: Point, cover: Array, edge: Array, farthest: Array
) -> tuple[Array, Array]:
    x, y, depth = point
    x, y, here = x[edge], y[edge], depth[edge]
    best, best_depth = np.full_like(x, np.inf), here
    for _ in range(4):
        distance = solid((x, y, here))
        best_depth = np.where(np.abs(distance) < np.abs(best), here, best_depth)
        best = np.minimum(distance, best)
        here = np.maximum(here - distance, farthest[edge])
    depth, cover = depth.copy(), np.floor(cover)
    depth[edge] = best_depth
    cover[edge] = np.clip(1.0 - best * camera.scale, 0.0, 1.0)
    return depth, cover


def rotation(yaw: float, pitch: float, roll: float) -> Array:
    """The `[3, 3]` from head to view coordinates. Degrees: yaw to the image's right, pitch up, roll clockwise."""
    yaw, pitch, roll = np.deg2rad([yaw, -pitch, -roll])
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    about_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    about_z = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    return (about_z @ about_y @ about_x).astype(np.float32)


def turn(matrix: Array, point: tuple[Number, Number, Number]) -> tuple[Number, Number, Number]:
    """`matrix` times every point."""
    x, y, z = point
    a, b, c = (float(row[0]) * x + float(row[1]) * y + float(row[2]) * z for row in matrix)
    return a, b, c


def pick(point: Point, where: Array | tuple[slice, slice]) -> Point:
    """Some of the points."""
    x, y, z = point
    return x[where], y[where], z[where]
