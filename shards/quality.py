"""How good a crop is: its head's pose, its sharpness. Cheap measures, from five landmarks and the pixels."""

import cv2
import numpy as np
from PIL import Image

from dinogen.data.schema import CROP_SIZE

# A mean head in millimetres, x to the image's right, y down, z away from the camera: eyes, nose tip, mouth corners.
HEAD = np.array([[-31.0, -34, 2], [31, -34, 2], [0, 0, -26], [-25, 30, 3], [25, 30, 3]])
FACE = slice(64, 208)  # the part of a 256 crop that is face in nearly every one


def head_pose(landmarks: np.ndarray) -> tuple[float, float]:
    """Estimate how far a head is turned, by fitting `HEAD` under weak perspective (POS; DeMenthon & Davis 1995).

    Args:
        landmarks: `[5, 2]`, pixels of the aligned crop, where the head no longer leans to a side.

    Returns:
        Yaw and pitch in degrees, -90 to 90: positive when the nose points to the image's right, or down.
    """
    model = HEAD - HEAD.mean(axis=0)
    points = np.asarray(landmarks, dtype=np.float64) - np.mean(landmarks, axis=0)
    fitted = np.linalg.lstsq(model, points, rcond=None)[0].T  # `[2, 3]`: two rows of a rotation, scaled
    left, _, right = np.linalg.svd(fitted, full_matrices=False)
    nose = -(left @ right)[:, 2]  # the nearest rotation's rows, applied to the nose's direction (0, 0, -1)
    yaw, pitch = np.degrees(np.arcsin(np.clip(nose, -1, 1)))
    return float(yaw), float(pitch)


def sharpness(crop: Image.Image) -> float:
    """Variance of the Laplacian of Gaussian over the face, per thousandth of the grey levels' variance.

    A larger crop is measured at 256 pixels, so that the same photo has about the same sharpness at any size.

    The Gaussian (σ 1 pixel) takes away the JPEG blocks and noise that make a blurred photo seem sharp to the plain
    Laplacian; the quotient makes it independent of contrast. Sharp portraits: 7 to 90; enlarged to 256 from 110
    pixels of height: 3 to 30; blurred by 1.4% of the photo's height: under 1.3; a flat wall: 0.
    """
    small = crop.convert("L").reduce(crop.width // CROP_SIZE)
    grey = cv2.GaussianBlur(np.asarray(small, dtype=np.float32)[FACE, FACE], (0, 0), 1.0)
    return float(1000 * cv2.Laplacian(grey, cv2.CV_32F).var() / max(grey.var(), 1.0))
