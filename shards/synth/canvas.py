"""What is painted on the skin: colours, fine relief and gloss, in the head's own coordinates."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shards.synth.solids import Array, Box, Camera, Point, Surface, pick, turn


def linear(colour: Sequence[float]) -> Array:
    """An sRGB colour of 0…255 as linear light of 0…1, `[3]`."""
    return ((np.asarray(colour, dtype=np.float32) / 255.0) ** 2.2).astype(np.float32)


@dataclass
class Canvas:
    """A window of the skin. All arrays are `[h, w]` (`colour` `[h, w, 3]`, linear light) and painted in place.

    Attributes:
        point: the skin's points in head coordinates.
        height: relief in units, too fine for the solid; only its slope is seen.
        gloss: strength of the highlight.
        pixel: the side of a pixel in units, the width of every clean edge.
    """

    camera: Camera
    turned: Array
    box: Box
    point: Point
    colour: Array
    height: Array
    gloss: Array

    @classmethod
    def blank(cls, camera: Camera, turned: Array, surface: Surface, colour: Array) -> "Canvas":
        """Bare skin of one colour (`[3]`) on all of `surface`; `turned` is the `[3, 3]` from head to view."""
        shape = surface.box.shape
        return cls(
            camera,
            turned,
            surface.box,
            turn(turned.T, surface.point),
            np.tile(colour, (*shape, 1)),
            np.zeros(shape, dtype=np.float32),
            np.full(shape, 0.10, dtype=np.float32),
        )

    @property
    def pixel(self) -> float:
        return 1.0 / self.camera.scale

    def patch(self, x: float, y: float, z: float, half_width: float, half_height: float) -> "Canvas":
        """The part of this canvas around a point in head coordinates; painting it paints this one."""
        middle = turn(self.turned, (x, y, z))
        reach = max(half_width, half_height) * 0.3  # a rolled head's patch needs a larger upright window
        box = Box.around(self.camera, middle[0], middle[1], half_width + reach, half_height + reach)
        box = Box(
            max(box.top, self.box.top),
            min(box.bottom, self.box.bottom),
            max(box.left, self.box.left),
            min(box.right, self.box.right),
        )
        rows = slice(box.top - self.box.top, max(box.bottom - self.box.top, 0))
        columns = slice(box.left - self.box.left, max(box.right - self.box.left, 0))
        part = (rows, columns)
        return Canvas(
            self.camera,
            self.turned,
            box,
            pick(self.point, part),
            self.colour[part],
            self.height[part],
            self.gloss[part],
        )

    def edge(self, distance: Array, softness: float = 0.0) -> Array:
        """1 where `distance` is negative, 0 where positive, over a pixel or over `softness` units if that is more."""
        width = max(self.pixel, softness)
        return np.clip(0.5 - distance / width, 0.0, 1.0)

    def paint(self, mask: Array, colour: Array) -> None:
        """Cover with `colour` (`[3]` or `[h, w, 3]`) to the share `mask`."""
        self.colour += (colour - self.colour) * mask[..., None]

    def tint(self, mask: Array, factor: Array | float | tuple[float, float, float]) -> None:
        """Multiply by `factor` (three numbers or one) to the share `mask`."""
        self.colour *= 1.0 + (np.asarray(factor, dtype=np.float32) - 1.0) * mask[..., None]
