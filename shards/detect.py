"""Searching a photo of any size for faces, with MTCNN or RetinaFace."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dinogen.errors import UsageError
from shards.face import Detector, Face, one_thread, sort_faces
from shards.retinaface import RetinaFaceDetector

SURE_FACE = 48  # MTCNN's last network looks at 48×48 pixels: what is smaller is guessed from blur
COARSE_SIDE = 1024  # where only the largest face counts, a large photo is first searched at about this size


class MtcnnDetector:
    """MTCNN (arXiv 1604.02878) as packaged by facenet-pytorch, whose wheel carries the weights.

    Pictures are searched one at a time: on a CPU batches gain nothing measurable, and they change the last bits
    of the landmarks, so that a crop would depend on its neighbours.
    """

    name = "mtcnn"
    max_pixels = 16_000_000  # about 30 bytes a pixel at its peak

    def __init__(self) -> None:
        from facenet_pytorch import MTCNN

        self.model: Any = MTCNN(keep_all=True, device="cpu")

    def detect(self, images: list[np.ndarray], min_face: float) -> list[list[Face]]:
        self.model.min_face_size = min_face
        with one_thread():
            return [self._detect_one(image) for image in images]

    def _detect_one(self, image: np.ndarray) -> list[Face]:
        if min(image.shape[:2]) < self.model.min_face_size:
            return []  # MTCNN fails on an empty pyramid of scales
        try:
            boxes, scores, landmarks = self.model.detect(image, landmarks=True)
        except (RuntimeError, IndexError):  # how it fails when every candidate lies outside the picture
            return []
        if boxes is None:
            return []
        faces = [
            Face(np.asarray(box, np.float64), np.asarray(points, np.float64), float(score))
            for box, points, score in zip(boxes, landmarks, scores, strict=True)
        ]
        return sort_faces(faces)


def find_faces(
    detector: Detector, image: Image.Image, min_face: int, min_score: float, largest_only: bool
) -> list[Face]:
    """Search a photo of any size; points come back in its own pixels, the largest face first.

    Nothing is lost by searching a reduced copy in which the smallest wanted face still has `SURE_FACE` pixels.
    With `largest_only` the copy is coarser still at first: a face found there is larger than all that it hides.
    """
    bounded = math.ceil(math.sqrt(image.width * image.height / detector.max_pixels))
    finest = max(1, min_face // SURE_FACE, bounded)
    coarsest = max(finest, -(-max(image.size) // COARSE_SIDE)) if largest_only else finest
    factor = coarsest
    while factor > finest:
        faces = find_at(detector, image, factor, SURE_FACE)
        if any(face.score >= min_score and face.side >= 1.5 * SURE_FACE * factor for face in faces):
            return faces
        factor = max(finest, factor // 2)
    return find_at(detector, image, finest, max(min_face / finest, 12))


def find_at(detector: Detector, image: Image.Image, factor: int, min_face: float) -> list[Face]:
    """Search a copy reduced by `factor`; `min_face` is in pixels of that copy."""
    copy = image.reduce(factor) if factor > 1 else image
    return [face.enlarged(factor) for face in detector.detect([np.asarray(copy)], min_face)[0]]


def make_detector(name: str, weights: Path | None = None) -> Detector:
    """Load a detector, `mtcnn` or `retinaface`; the latter's `weights` lie in a file."""
    if name == "mtcnn":
        return MtcnnDetector()
    if name == "retinaface" and weights is not None:
        return RetinaFaceDetector(weights)
    raise UsageError(f"detector '{name}' is not known, or lacks its weights; choose mtcnn or retinaface")
