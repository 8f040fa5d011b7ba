"""The head as one solid: skull, jaw, cheeks, sockets, nose, and ears, flowing into each other."""

from dataclasses import dataclass

import numpy as np

from shards.synth.solids import Array, Point, Solid, capsule, carve, ellipsoid, sphere, turn, unite


@dataclass(frozen=True)
class Face:
    """The numbers that make one head unlike another: 1 (or 0 where said) is the middle of people; lengths in units."""

    jaw: float = 1.0  # width of the lower face
    length: float = 0.0  # how much lower than usual the chin sits
    square: float = 0.0  # 0…1, corners of the jaw
    chin: float = 1.0
    cheeks: float = 1.0
    ridge: float = 0.0  # 0…1, the bone over the eyes
    eye_gap: float = 0.33  # from the middle of the face to a pupil
    eye_size: float = 1.0
    eye_tilt: float = 0.0  # the outer corners' lift
    nose_length: float = 1.0
    nose_width: float = 1.0
    nose_tip: float = 0.0  # -1 hangs, 1 turned up
    lips: float = 1.0  # fullness
    mouth_width: float = 1.0
    ears: float = 1.0
    neck: float = 1.0

    @property
    def nose_base(self) -> float:
        return -0.38 * self.nose_length - 0.3 * self.length

    @property
    def mouth(self) -> float:
        """Height of the line between the lips."""
        return -0.645 - 0.6 * self.length


def head_solid(face: Face, turned: Array) -> Solid:
    """Head and ears in view coordinates; `turned` is the `[3, 3]` from head to view coordinates."""

    def distance(point: Point) -> Array:
        x, y, z = turn(turned.T, point)
        mirrored = (np.abs(x), y, z)
        shape = _bones(face, mirrored)
        shape = _eyes(face, shape, mirrored)
        shape = _nose(face, shape, mirrored)
        return unite(shape, _ear(face, mirrored), 0.05)

    return distance


def _bones(face: Face, point: Point) -> Array:
    skull = ellipsoid(point, (0.0, 0.30, -0.14), (0.80, 0.84, 0.94))
    lower = ellipsoid(point, (0.0, -0.30 - 0.5 * face.length, 0.10), (0.645 * face.jaw, 0.80 + 0.5 * face.length, 0.70))
    shape = unite(skull, lower, 0.30)
    cheek = sphere(point, (0.36, -0.30, 0.53), 0.19 * face.cheeks)
    shape = unite(shape, cheek, 0.28)
    if face.square > 0.0:
        corner = sphere(point, (0.42 * face.jaw, -0.66 - face.length, 0.12), 0.16 + 0.08 * face.square)
        shape = unite(shape, corner, 0.30)
    chin = sphere(point, (0.07 * face.square, -0.97 - face.length, 0.50), 0.155 * face.chin)
    shape = unite(shape, chin, 0.30)
    muzzle = ellipsoid(point, (0.0, face.mouth, 0.58), (0.30, 0.22, 0.235))
    return unite(shape, muzzle, 0.16)


def _eyes(face: Face, shape: Array, point: Point) -> Array:
    shape = carve(shape, sphere(point, (face.eye_gap, -0.01, 1.02), 0.215), 0.16)
    if face.ridge > 0.0:
        ridge = capsule(point, (0.13, 0.20, 0.76), (0.46, 0.23, 0.60), 0.07 * face.ridge, 0.06 * face.ridge)
        shape = unite(shape, ridge, 0.14)
    ball = sphere(point, (face.eye_gap, 0.0, 0.575), 0.205 * face.eye_size)
    return unite(shape, ball, 0.05)


def _nose(face: Face, shape: Array, point: Point) -> Array:
    base, width = face.nose_base, face.nose_width
    tip = (0.0, base + 0.035 + 0.04 * face.nose_tip, 0.965)
    bridge = capsule(point, (0.0, 0.08, 0.79), tip, 0.052 * width, 0.090 * width)
    ball = sphere(point, (0.0, tip[1] - 0.005, 0.945), 0.108 * width)
    wing = sphere(point, (0.108 * width, base, 0.865), 0.070 * width)
    shape = unite(shape, bridge, 0.13)
    shape = unite(shape, ball, 0.05)
    shape = unite(shape, wing, 0.06)
    nostril = ellipsoid(point, (0.060 * width, base - 0.070, 0.93), (0.034 * width, 0.03, 0.05))
    return carve(shape, nostril, 0.03)


def _ear(face: Face, point: Point) -> Array:
    x, y, z = point
    size = face.ears
    leaning = (x - 0.10 * y + 0.25 * (z + 0.1), y, z)
    ear = ellipsoid(leaning, (0.81, -0.04, -0.12), (0.07, 0.225 * size, 0.15 * size))
    return carve(ear, ellipsoid(leaning, (0.895, -0.01, 0.02), (0.06, 0.13 * size, 0.09 * size)), 0.04)
