"""The crop's geometry: where it lies, that `transform` tells the truth, and what happens over the photo's edge."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from shards.align import align, carry, crop_transform, inverse, padding_share

UPRIGHT = np.array([[100, 100], [160, 100], [130, 140], [110, 170], [150, 170]], dtype=np.float64)


def turned(points: np.ndarray, degrees: float, scale: float = 1.0, move: tuple[float, float] = (0, 0)) -> np.ndarray:
    """Turn points about their middle (clockwise on the screen), then scale and move them."""
    angle = np.radians(degrees)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = points.mean(axis=0)
    return ((points - middle) @ rotation.T + middle) * scale + move


def ffhq_quad(landmarks: np.ndarray) -> np.ndarray:
    """The published recipe, line by line: corners of the crop, top left, bottom left, bottom right, top right."""
    eye_left, eye_right = landmarks[0], landmarks[1]
    eye_avg = (eye_left + eye_right) * 0.5
    eye_to_eye = eye_right - eye_left
    eye_to_mouth = (landmarks[3] + landmarks[4]) * 0.5 - eye_avg
    x = eye_to_eye - np.flipud(eye_to_mouth) * [-1, 1]
    x /= np.hypot(*x)
    x *= max(np.hypot(*eye_to_eye) * 2.0, np.hypot(*eye_to_mouth) * 1.8)
    y = np.flipud(x) * [-1, 1]
    c = eye_avg + eye_to_mouth * 0.1
    return np.stack([c - x - y, c - x + y, c + x + y, c + x - y])


def blob_photo(size: tuple[int, int], point: np.ndarray, radius: float) -> Image.Image:
    """A white Gaussian blob of `radius` pixels on black, exactly at `point`."""
    x, y = (np.exp(-((np.arange(length) - at) ** 2) / (2 * radius**2)) for length, at in zip(size, point, strict=True))
    return Image.fromarray(np.uint8(np.rint(np.outer(y, x) * 255))).convert("RGB")


def find_blob(image: Image.Image, near: np.ndarray) -> np.ndarray:
    """The centre of light within 25 pixels of `near`: over the edge there may be a mirrored blob, too."""
    grey = np.asarray(image.convert("L"), dtype=np.float64)
    x, y = np.meshgrid(np.arange(grey.shape[1]), np.arange(grey.shape[0]))
    grey = grey * (np.hypot(x - near[0], y - near[1]) < 25)
    return np.array([(x * grey).sum(), (y * grey).sum()]) / grey.sum()


@pytest.mark.parametrize("degrees", [0, 17, -40, 90, 180])
def test_the_crop_is_the_square_of_ffhq(degrees):
    landmarks = turned(UPRIGHT, degrees)
    corners = carry(ffhq_quad(landmarks), crop_transform(landmarks))
    assert corners == pytest.approx(np.array([[-0.5, -0.5], [-0.5, 255.5], [255.5, 255.5], [255.5, -0.5]]), abs=1e-9)


@pytest.mark.parametrize("degrees", [0, 33, -120])
def test_a_symmetric_face_stands_upright_and_in_the_middle(degrees):
    landmarks = turned(UPRIGHT, degrees, 1.7)
    left, right, _, mouth_left, mouth_right = carry(landmarks, crop_transform(landmarks))
    assert left[1] == pytest.approx(right[1])
    assert left[0] + right[0] == pytest.approx(255)
    assert mouth_left[0] + mouth_right[0] == pytest.approx(255)
    assert left[0] < right[0] and left[1] < mouth_left[1]


@pytest.mark.parametrize("scale", [0.35, 0.8, 1.0, 1.6, 2.6, 5.3])
@pytest.mark.parametrize("degrees", [0, 23, -71])
def test_points_of_the_photo_are_found_where_the_transform_says(degrees, scale):
    landmarks = turned(UPRIGHT, degrees, scale, (700 - 130 * scale, 700 - 130 * scale))
    transform = crop_transform(landmarks)
    photo_per_crop = 1 / np.sqrt(np.linalg.det(transform[:, :2]))
    for point in landmarks:
        crop = align(blob_photo((1400, 1400), point, radius=2 * max(photo_per_crop, 1)), transform)
        expected = carry(point[None], transform)[0]
        assert find_blob(crop, expected) == pytest.approx(expected, abs=0.05)


def test_the_transform_also_holds_beside_a_padded_edge():
    landmarks = turned(UPRIGHT, 20, 1.5, (-90, -80))
    transform = crop_transform(landmarks)
    assert padding_share(transform, (700, 700)) > 0.1
    for point in landmarks:
        crop = align(blob_photo((700, 700), point, radius=3), transform)
        expected = carry(point[None], transform)[0]
        assert find_blob(crop, expected) == pytest.approx(expected, abs=0.25)  # the soft edge begins inside the photo


def test_reducing_does_not_alias():
    """Stripes finer than the crop can show become their mean, not false coarse stripes."""
    stripes = np.uint8(np.arange(2000) % 3 == 0) * 255
    photo = Image.fromarray(np.tile(stripes, (2000, 1))).convert("RGB")
    landmarks = turned(UPRIGHT, 10, 6.0, (220, 220))
    crop = np.asarray(align(photo, crop_transform(landmarks)), dtype=np.float64)[40:-40, 40:-40]
    assert crop.mean() == pytest.approx(85, abs=1)
    assert crop.std() < 6


def test_enlarging_keeps_a_smooth_ramp_smooth():
    ramp = Image.fromarray(np.tile(np.arange(200, dtype=np.uint8), (200, 1))).convert("RGB")
    transform = crop_transform(turned(UPRIGHT, 0, 0.4, (46, 40)))
    crop = np.asarray(align(ramp, transform), dtype=np.float64)[128, :, 0]
    expected = carry(np.stack([np.arange(256), np.full(256, 128)], 1), inverse(transform))[:, 0]
    assert np.abs(crop - expected).max() < 1.1


def test_over_the_edge_the_photo_is_mirrored_and_fades_without_a_seam():
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(90, 160, (300, 300, 3), dtype=np.uint8))
    ImageDraw.Draw(photo).rectangle((0, 0, 299, 15), fill=(200, 40, 40))
    transform = crop_transform(turned(UPRIGHT, 0, 1.0, (20, -60)))
    crop = np.asarray(align(photo, transform), dtype=np.float64)
    edge = int(carry(np.array([[150, 0]]), transform)[0, 1])
    assert edge > 40, "the crop begins above the photo"
    red = crop[:, :, 0].mean(axis=1) - crop[:, :, 1].mean(axis=1)
    assert red[edge] > 60 > 40 > abs(red[edge - 35]), "the red rim is mirrored, not smeared outwards"
    assert crop.min() > 20, "nothing is filled with black"
    rows = crop.mean(axis=1)
    assert np.abs(np.diff(rows[: edge + 10], axis=0)).max() < 6
    assert crop[:8].std(axis=1).max() < crop[-40:].std(axis=1).min() / 3, "far outside it is smooth"


def test_brightness_is_kept():
    """The mean of noise is the mean of its crop: no filter darkens."""
    noise = Image.fromarray(np.random.default_rng(2).integers(60, 196, (900, 900, 3), dtype=np.uint8))
    landmarks = turned(UPRIGHT, 15, 2.2, (320, 320) - 1.2 * UPRIGHT.mean(axis=0))
    assert np.asarray(align(noise, crop_transform(landmarks)), np.float64).mean() == pytest.approx(127.5, abs=0.2)


def test_a_photo_that_holds_the_whole_crop_is_not_blurred_anywhere():
    rng = np.random.default_rng(1)
    photo = Image.fromarray(rng.integers(0, 255, (256, 256, 3), dtype=np.uint8))
    whole = np.array([[1.0, 0, 0], [0, 1.0, 0]])
    assert np.array_equal(np.asarray(align(photo, whole)), np.asarray(photo))


def test_padding_share_is_the_area_outside():
    half_outside = np.array([[1.0, 0, 128], [0, 1.0, 0]])
    assert padding_share(half_outside, (256, 256)) == pytest.approx(0.5, abs=0.01)
    assert padding_share(np.array([[1.0, 0, 0], [0, 1.0, 0]]), (256, 256)) == 0


def test_landmarks_on_one_spot_are_refused():
    with pytest.raises(ValueError, match="fall together"):
        crop_transform(np.full((5, 2), 40.0))
