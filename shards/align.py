"""The oriented crop of FFHQ (NVlabs/ffhq-dataset, `recreate_aligned_images`), from five landmarks.

Coordinates: a point (x, y) is in pixel indices, so (0, 0) is the CENTRE of the first pixel, in photo and crop alike.
Inside `align` they are counted from pixel edges, where reducing by a whole factor is a mere division.
"""

import math

import cv2
import numpy as np
from PIL import Image, ImageFilter

from dinogen.data.schema import CROP_SIZE

BORDER = 0.1  # of the crop's side: kept around the crop so that filters and soft edges see real pixels
FADE = 0.3  # of the crop's side: the least width over which a padded side fades
BLUR = 0.02  # of the crop's side: the blur that a padded side fades into


def crop_transform(landmarks: np.ndarray, size: int = CROP_SIZE) -> np.ndarray:
    """Place the crop on a face: rotated with it, its side 4 eye distances or 3.6 eye-to-mouth distances.

    Args:
        landmarks: `[5, 2]`, pixels of the photo: eyes, nose, mouth corners, the image-left one first.
        size: side of the crop in pixels.

    Returns:
        The affine `[2, 3]`, float64, with `crop_point = transform @ (x, y, 1)`.

    Raises:
        ValueError: the landmarks fall together, so they span no crop.
    """
    eye_left, eye_right, _, mouth_left, mouth_right = np.asarray(landmarks, dtype=np.float64)
    eye_middle = (eye_left + eye_right) / 2
    eye_to_eye = eye_right - eye_left
    eye_to_mouth = (mouth_left + mouth_right) / 2 - eye_middle
    along = eye_to_eye - rot90(eye_to_mouth)  # horizontal in the crop: the eye line, evened out by the face's axis
    length = float(np.hypot(*along))
    half_side = max(2.0 * np.hypot(*eye_to_eye), 1.8 * np.hypot(*eye_to_mouth))
    if not math.isfinite(length) or length < 1e-3 or half_side < 1:
        raise ValueError("the landmarks fall together")
    axis = along / length
    centre = eye_middle + 0.1 * eye_to_mouth
    rotation_scale = np.stack([axis, rot90(axis)]) * (size / 2 / half_side)
    offset = (size - 1) / 2 - rotation_scale @ centre
    return np.column_stack([rotation_scale, offset])


def rot90(vector: np.ndarray) -> np.ndarray:
    """Turn by a quarter, x towards y (clockwise on the screen, where y points down)."""
    return np.array([-vector[1], vector[0]])


def carry(points: np.ndarray, transform: np.ndarray) -> np.ndarray:
    """Carry points `[n, 2]` of the photo into the crop."""
    return np.asarray(points, dtype=np.float64) @ transform[:, :2].T + transform[:, 2]


def crop_corners(transform: np.ndarray, size: int = CROP_SIZE) -> np.ndarray:
    """The outer corners of the crop in the photo, `[4, 2]`, counted from pixel edges."""
    square = np.array([[0, 0], [size, 0], [size, size], [0, size]], dtype=np.float64)
    return carry(square, inverse(to_edges(transform)))


def padding_share(transform: np.ndarray, image_size: tuple[int, int], size: int = CROP_SIZE) -> float:
    """The share of the crop, 0 to 1, that lies outside the photo and has to be invented."""
    steps = (np.arange(64) + 0.5) * size / 64
    grid = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    points = carry(grid, inverse(to_edges(transform)))
    inside = ((points >= 0) & (points <= np.asarray(image_size))).all(axis=1)
    return float(1 - inside.mean())


def align(image: Image.Image, transform: np.ndarray, size: int = CROP_SIZE) -> Image.Image:
    """Cut the crop that `transform` describes out of an RGB photo.

    Antialiased: whole source pixels are averaged first while at least two a crop pixel are left, the rest is
    sampled bicubically about once a remaining pixel and brought down by Lanczos. What lies outside the photo
    is its mirror image, fading softly into a blur and then into the median colour.
    """
    to_photo = inverse(to_edges(transform))
    scale = math.sqrt(abs(np.linalg.det(to_photo[:, :2])))  # photo pixels per crop pixel
    side = scale * size
    shrink = max(1, int(scale / 2))
    wanted = outer_box(crop_corners(transform, size))
    region, origin = cut(image, grow(wanted, math.ceil(BORDER * side) + 3 * shrink), shrink)
    beyond = np.maximum(0, [-wanted[0], -wanted[1], wanted[2] - image.width, wanted[3] - image.height]) / shrink
    if beyond.any():
        region, added = pad_softly(region, beyond, side / shrink)
        origin = origin - added * shrink
    to_region = np.column_stack([to_photo[:, :2], to_photo[:, 2] - origin]) / shrink
    return resample(region, to_region, scale / shrink, size)


def resample(region: Image.Image, to_region: np.ndarray, scale: float, size: int) -> Image.Image:
    """Sample `region` on a grid fine enough to miss no pixel of it, then reduce that grid to the crop's.

    In floating point, rounded once: Pillow's own 8-bit affine cuts fractions off and darkens by half a level.
    """
    finer = max(1, math.ceil(scale - 1e-6))
    on_grid = shifted(to_region * np.array([1 / finer, 1 / finer, 1]), -0.5)  # OpenCV counts from pixel centres
    sampled = cv2.warpAffine(
        np.asarray(region, dtype=np.float32), on_grid, (size * finer, size * finer),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    if finer > 1:
        channels = [
            Image.fromarray(channel).resize((size, size), Image.Resampling.LANCZOS)
            for channel in np.ascontiguousarray(sampled.transpose(2, 0, 1))
        ]
        sampled = np.stack([np.asarray(channel) for channel in channels], axis=-1)
    return to_image(sampled)


def to_image(pixels: np.ndarray) -> Image.Image:
    """Float RGB `[H, W, 3]` of 0 to 255 → 8 bits, rounded."""
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


def cut(image: Image.Image, box: np.ndarray, shrink: int) -> tuple[Image.Image, np.ndarray]:
    """The part of `box` inside the photo, averaged over `shrink`×`shrink` pixels, and where it begins."""
    limits = np.array([image.width, image.height])
    first = np.clip(box[:2], 0, limits - 1)
    last = np.clip(box[2:], first + 1, limits)
    region = image.crop((*first.tolist(), *last.tolist()))
    return (region.reduce(shrink) if shrink > 1 else region), first.astype(np.float64)


def pad_softly(region: Image.Image, beyond: np.ndarray, side: float) -> tuple[Image.Image, np.ndarray]:
    """Mirror the region over the photo's edges, as far as the crop reaches `beyond` them, and fade it.

    Args:
        region: begins and ends at the photo's edge on every side where `beyond` is not 0.
        beyond: how far the crop reaches over the left, top, right and bottom edge, in pixels of `region`.
        side: the crop's side in pixels of `region`; the unit of the fade and the blur.

    Returns:
        The padded image, and how many pixels were added at its left and top, `[2]`.
    """
    added = np.where(beyond > 0, np.ceil(beyond) + 4, 0).astype(int)
    left, top, right, bottom = added.tolist()
    padded = np.pad(np.asarray(region), ((top, bottom), (left, right), (0, 0)), mode="reflect")
    blurred = np.asarray(Image.fromarray(padded).filter(ImageFilter.GaussianBlur(BLUR * side)), dtype=np.float32)
    depth = outside_depth(padded.shape[:2], added, np.maximum(beyond, FADE * side))
    pixels = padded.astype(np.float32)
    pixels += (blurred - pixels) * np.clip(3 * depth + 1, 0, 1)
    pixels += (np.median(padded[::4, ::4], axis=(0, 1)).astype(np.float32) - pixels) * np.clip(depth, 0, 1)
    return to_image(pixels), np.array([left, top])


def outside_depth(shape: tuple[int, int], added: np.ndarray, fade: np.ndarray) -> np.ndarray:
    """How far outside the photo each padded pixel lies, in fade widths: negative inside, 1 at the crop's far edge."""
    height, width = shape
    x, y = np.arange(width, dtype=np.float32)[None, :], np.arange(height, dtype=np.float32)[:, None]
    distances = (added[0] - x, added[1] - y, x - (width - 1 - added[2]), y - (height - 1 - added[3]))
    depth = np.full(shape, -1, dtype=np.float32)
    for side in np.flatnonzero(added):
        depth = np.maximum(depth, distances[side] / np.float32(fade[side]))
    return depth[:, :, None]


def to_edges(transform: np.ndarray) -> np.ndarray:
    """The same affine for points counted from pixel edges instead of pixel centres."""
    return shifted(transform, 0.5)


def shifted(transform: np.ndarray, step: float) -> np.ndarray:
    """The same affine for points that are all counted from `step` pixels further to the left and top."""
    linear = transform[:, :2]
    return np.column_stack([linear, transform[:, 2] + step - linear @ [step, step]])


def inverse(transform: np.ndarray) -> np.ndarray:
    """The affine `[2, 3]` that undoes `transform`."""
    linear = np.linalg.inv(transform[:, :2])
    return np.column_stack([linear, -linear @ transform[:, 2]])


def outer_box(points: np.ndarray) -> np.ndarray:
    """The smallest box of whole pixels around `points`: left, top, right, bottom."""
    return np.concatenate([np.floor(points.min(axis=0)), np.ceil(points.max(axis=0))]).astype(int)


def grow(box: np.ndarray, margin: int) -> np.ndarray:
    """`box`, wider by `margin` on every side."""
    return box + np.array([-margin, -margin, margin, margin])
