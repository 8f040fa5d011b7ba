"""Pose and sharpness: measured right where the truth is known."""

import numpy as np
import pytest
from PIL import Image, ImageFilter
from scipy.spatial.transform import Rotation

from helpers.drawn_face import draw_face
from shards.quality import HEAD, head_pose, sharpness


@pytest.mark.parametrize("yaw", [-70, -30, 0, 15, 55])
def test_yaw_of_a_turned_head_is_recovered(yaw):
    turned = HEAD @ Rotation.from_euler("y", -yaw, degrees=True).as_matrix().T
    assert head_pose(turned[:, :2] * 2.5 + 90) == pytest.approx((yaw, 0), abs=0.1)


@pytest.mark.parametrize("pitch", [-50, -10, 35])
def test_pitch_of_a_nodding_head_is_recovered(pitch):
    turned = HEAD @ Rotation.from_euler("x", pitch, degrees=True).as_matrix().T
    assert head_pose(turned[:, :2] * 0.7) == pytest.approx((0, pitch), abs=0.1)


def test_the_nose_tells_the_direction():
    right = HEAD[:, :2] + np.array([[0, 0], [0, 0], [15, 0], [0, 0], [0, 0]])
    assert head_pose(right)[0] > 10 and head_pose(right * [-1, 1])[0] < -10


def test_blur_lowers_sharpness_step_by_step():
    face = draw_face((256, 256), height=170)
    values = [sharpness(face.filter(ImageFilter.GaussianBlur(radius))) for radius in (0, 1, 2, 4, 6)]
    assert values == sorted(values, reverse=True) and values[0] > 3 > 1 > values[-1]


def test_contrast_does_not_count_as_sharpness():
    face = draw_face((256, 256), height=170)
    faint = Image.fromarray(np.uint8(np.asarray(face) * 0.4 + 90))
    assert sharpness(faint) == pytest.approx(sharpness(face), rel=0.15)


def test_a_flat_wall_is_not_sharp():
    assert sharpness(Image.new("RGB", (256, 256), (80, 90, 100))) == 0
