"""What a face detector finds, and what every detector needs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Face:
    """One face, in pixel indices of the picture searched.

    box: `[4]` left, top, right, bottom. landmarks: `[5, 2]` eyes, nose, mouth corners, image-left first.
    score: the detector's confidence, 0 to 1.
    """

    box: np.ndarray
    landmarks: np.ndarray
    score: float

    @property
    def side(self) -> float:
        """The longer side of the box in pixels."""
        return float(max(self.box[2] - self.box[0], self.box[3] - self.box[1]))

    def enlarged(self, factor: int) -> "Face":
        """The same face in a picture `factor` times as large."""
        shift = (factor - 1) / 2  # the centre of a block of `factor` pixels
        return Face(self.box * factor + shift, self.landmarks * factor + shift, self.score)


class Detector(Protocol):
    """Finds faces.

    name: as `--detector` has it. max_pixels: larger pictures are reduced first, which bounds memory.
    """

    name: str
    max_pixels: int

    def detect(self, images: list[np.ndarray], min_face: float) -> list[list[Face]]:
        """Find faces at least about `min_face` pixels large in uint8 RGB images `[H, W, 3]`, the largest first."""
        ...


def sort_faces(faces: list[Face]) -> list[Face]:
    """The largest first; equal ones in a fixed order, so that face indices never change between runs."""
    return sorted(faces, key=lambda face: (-face.side, -face.score, *face.box.tolist()))


@contextmanager
def one_thread() -> Iterator[None]:
    """Workers share the cores by photos; and the last bits of a convolution depend on the number of threads."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
