"""Glasses: frames in a plane before the eyes, arms that run back to the ears."""

from dataclasses import dataclass

import numpy as np

from shards.synth.canvas import linear
from shards.synth.person import Colour, Person
from shards.synth.solids import Array, Box, Camera, mix, smoothstep, turn

PLANE = 0.97  # the lenses' distance from the head's middle
FACE = 0.80  # and that of the skin on which they throw their shadow
HIDDEN = 0.9  # hair in front of this depth still falls over the frames
EAR = (0.81, 0.02, -0.05)


@dataclass(frozen=True)
class Frame:
    """A frame's measures in units: half a lens's width and height, the radius of its corners, half the rim's width."""

    half_width: float
    half_height: float
    corner: float
    rim: float
    colour: Colour

    def lens(self, x: Array, y: Array, gap: float) -> Array:
        """Distance from the outline of the nearer lens, negative inside; `gap` is from the nose to a lens's middle."""
        dx = np.abs(np.abs(x) - gap) - self.half_width + self.corner
        dy = np.abs(y + 0.015) - self.half_height + self.corner
        outside = np.sqrt(np.maximum(dx, 0.0) ** 2 + np.maximum(dy, 0.0) ** 2)
        return outside + np.minimum(np.maximum(dx, dy), 0.0) - self.corner


FRAMES = {
    "round": Frame(0.215, 0.205, 0.20, 0.016, (64, 40, 28)),
    "square": Frame(0.235, 0.175, 0.07, 0.022, (28, 26, 30)),
    "thin": Frame(0.225, 0.165, 0.10, 0.009, (168, 138, 84)),
}


def paint_glasses(person: Person, camera: Camera, turned: Array, picture: Array, depth: Array) -> None:
    """Draw shadow, lenses and frame over the face that is already in `picture` (linear light); note them in `depth`."""
    frame, gap = FRAMES[person.glasses], person.shape.eye_gap + 0.015
    box = Box.around(camera, *turn(turned, (0.0, 0.0, FACE))[:2], 1.1, 0.62)
    picture, depth, rays = picture[box.window], depth[box.window], camera.rays(box)

    x, y = _on_plane(*rays, turned, FACE)
    shadow = np.exp(-((frame.lens(x + 0.05 * person.light_side, y + 0.05, gap) / (2.0 * frame.rim + 0.012)) ** 2))
    picture *= (1.0 - 0.32 * shadow * smoothstep(0.2, 0.6, depth))[..., None]

    x, y = _on_plane(*rays, turned, PLANE)
    edge = frame.lens(x, y, gap)
    inside = np.clip(0.5 - edge * camera.scale, 0.0, 1.0)
    glare = smoothstep(0.05, 0.0, np.abs((x * 0.8 + y + 0.02) % 0.66 - 0.33)) * smoothstep(-0.02, -0.05, edge)
    picture += (inside * (0.012 + 0.035 * glare))[..., None] * linear((226, 236, 255))

    bridge = np.abs(y - 0.035 + 0.9 * x * x) - frame.rim * 0.9
    bridge = np.maximum(bridge, np.abs(x) - gap + frame.half_width + frame.rim)
    mask = np.clip(0.5 - np.minimum(np.abs(edge) - frame.rim, bridge) * camera.scale, 0.0, 1.0)
    arms = _arms(frame, camera, turned, rays, gap, depth)
    # The light comes from above: bright on the upper side of each rim, dark on its lower side.
    tone = mix(0.55, 1.7, smoothstep(-0.6, 0.9, (edge / frame.rim + 0.5) * np.sign(y + 0.02)))
    picture += (linear(frame.colour) * tone[..., None] + 0.02 - picture) * np.maximum(mask, arms)[..., None]
    depth[:] = np.where(mask > 0.5, np.maximum(depth, HIDDEN), depth)


def _on_plane(view_x: Array, view_y: Array, turned: Array, z: float) -> tuple[Array, Array]:
    """Head coordinates (x, y) where each ray crosses the head's plane at depth `z`."""
    (a, b), (c, d) = ((float(part) for part in row) for row in np.linalg.inv(turned[:2, :2]))
    dx, dy = view_x - float(turned[0, 2]) * z, view_y - float(turned[1, 2]) * z
    return a * dx + b * dy, c * dx + d * dy


def _arms(frame: Frame, camera: Camera, turned: Array, rays: tuple[Array, Array], gap: float, depth: Array) -> Array:
    """Coverage of the two arms, without the part that the head hides."""
    cover = np.zeros_like(depth)
    for side in (-1, 1):
        start = turn(turned, (side * (gap + frame.half_width - 0.01), 0.06, PLANE - 0.02))
        end = turn(turned, (side * EAR[0], EAR[1], EAR[2]))
        axis = (end[0] - start[0], end[1] - start[1])
        x, y = rays[0] - start[0], rays[1] - start[1]
        along = np.clip((x * axis[0] + y * axis[1]) / max(axis[0] ** 2 + axis[1] ** 2, 1e-4), 0.0, 1.0)
        off = np.sqrt((x - along * axis[0]) ** 2 + (y - along * axis[1]) ** 2)
        line = np.clip(0.5 - (off - frame.rim * 0.8) * camera.scale, 0.0, 1.0)
        seen = np.clip((mix(start[2], end[2], along) - depth) * 20.0 + 1.0, 0.0, 1.0)
        cover = np.maximum(cover, line * seen)
    return cover
