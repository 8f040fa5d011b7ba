"""What is behind the sitter, out of focus: so it is drawn at a quarter size and enlarged."""

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from shards.synth.canvas import linear
from shards.synth.person import Person
from shards.synth.solids import SIZE, Array, smoothstep

SMALL = SIZE // 4
STREET = [(1.0, 0.72, 0.36), (1.0, 0.50, 0.30), (0.55, 0.80, 1.0), (1.0, 0.9, 0.7), (0.7, 1.0, 0.8)]  # lights at night
DAYLIGHT, LAMP = np.array([(1.0, 0.98, 0.92), (1.0, 0.75, 0.42)], dtype=np.float32)


def draw_backdrop(person: Person, rng: np.random.Generator) -> Array:
    """`[512, 512, 3]`, linear light."""
    y, x = np.mgrid[0:SMALL, 0:SMALL].astype(np.float32) / SMALL
    small = _SCENES[person.background](linear(person.background_rgb), x, y, rng)
    corner = (x - 0.5) ** 2 + (y - 0.45) ** 2
    small = small * (1.08 - 0.55 * corner)[..., None]
    channels = [Image.fromarray(np.ascontiguousarray(small[..., channel])) for channel in range(3)]
    large = [np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BICUBIC)) for image in channels]
    return np.maximum(np.stack(large, axis=-1), 0.0)


def _plain(colour: Array, x: Array, y: Array, rng: np.random.Generator) -> Array:
    glow_x, glow_y = rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.6)
    glow = np.exp(-(((x - glow_x) ** 2 + (y - glow_y) ** 2) / 0.16))
    cloud = gaussian_filter(rng.normal(size=x.shape).astype(np.float32), 12.0)
    return colour * (0.72 + 0.50 * glow - 0.12 * y + 0.5 * cloud)[..., None]


def _lights(colour: Array, x: Array, y: Array, rng: np.random.Generator) -> Array:
    """An evening street far behind: discs of the lens's own shape, brighter at their rims."""
    image = colour * (0.55 - 0.2 * y)[..., None]
    hues = np.array(STREET, dtype=np.float32)
    for _ in range(int(rng.integers(18, 34))):
        radius = rng.uniform(0.025, 0.085)
        r = np.sqrt((x - rng.uniform(-0.05, 1.05)) ** 2 + (y - rng.uniform(-0.05, 0.9)) ** 2) / radius
        disc = smoothstep(1.16, 0.84, r) * (0.65 + 0.35 * smoothstep(0.4, 1.0, r))
        hue = 0.7 * hues[int(rng.integers(len(hues)))] + 0.3 * colour
        image = image + (rng.uniform(0.08, 0.42) * disc)[..., None] * hue
    return image


def _leaves(colour: Array, x: Array, y: Array, rng: np.random.Generator) -> Array:
    coarse = gaussian_filter(rng.normal(size=x.shape).astype(np.float32), 9.0) * 16.0
    fine = gaussian_filter(rng.normal(size=x.shape).astype(np.float32), 3.5) * 6.0
    image = colour * np.clip(0.62 + 0.35 * coarse + 0.20 * fine, 0.10, 2.0)[..., None]
    sun = np.array([1.0, 0.95, 0.55], dtype=np.float32)
    for _ in range(14):
        r = np.sqrt((x - rng.uniform()) ** 2 + (y - rng.uniform(0.0, 0.6)) ** 2) / rng.uniform(0.02, 0.06)
        image = image + (rng.uniform(0.05, 0.35) * smoothstep(1.25, 0.75, r))[..., None] * sun
    return image


def _sky(colour: Array, x: Array, y: Array, rng: np.random.Generator) -> Array:
    cloud = gaussian_filter(rng.normal(size=x.shape).astype(np.float32), (5.0, 11.0)) * 22.0
    cloud = smoothstep(0.1, 1.6, cloud) * 0.8
    blue = colour * (0.75 + 0.55 * y)[..., None]
    image = blue + (0.95 - blue) * cloud[..., None]
    horizon = rng.uniform(0.62, 0.8)
    land = linear((118, 140, 96)) if rng.random() < 0.6 else linear((206, 182, 142))
    below = smoothstep(horizon - 0.03, horizon + 0.03, y + 0.02 * np.sin(9.0 * x))[..., None]
    return image + (land * (1.15 - 0.5 * y)[..., None] - image) * below


def _room(colour: Array, x: Array, y: Array, rng: np.random.Generator) -> Array:
    """A wall with a window on one side and a lamp or a picture on the other."""
    image = colour * (0.85 - 0.25 * y)[..., None]
    left = rng.uniform(-0.1, 0.08) if rng.random() < 0.5 else rng.uniform(0.62, 0.75)
    pane = smoothstep(left, left + 0.02, x) * smoothstep(left + 0.36, left + 0.34, x)
    pane = pane * smoothstep(0.02, 0.05, y) * smoothstep(0.72, 0.69, y)
    bars = 1.0 - 0.7 * np.exp(-(((x - left - 0.18) / 0.012) ** 2)) - 0.7 * np.exp(-(((y - 0.36) / 0.012) ** 2))
    image = image + (DAYLIGHT * 1.05 - image) * (pane * np.clip(bars, 0.0, 1.0))[..., None]
    other = 0.82 if left < 0.3 else 0.16
    glow = np.exp(-(((x - other) / 0.16) ** 2) - ((y - rng.uniform(0.25, 0.5)) / 0.2) ** 2)
    image = image + 0.45 * glow[..., None] * LAMP
    return np.stack([gaussian_filter(image[..., c], 2.2) for c in range(3)], axis=-1)


_SCENES = {"plain": _plain, "lights": _lights, "leaves": _leaves, "sky": _sky, "room": _room}
