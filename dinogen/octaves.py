"""Images in octaves: what each halving of their size takes away. Tensors only."""

import torch.nn.functional as F
from torch import Tensor


def octaves(images: Tensor, coarsest: int) -> tuple[dict[int, Tensor], Tensor]:
    """Split images so that the sum of all parts, enlarged, is the image.

    An octave is an image minus its half-size reduction enlarged again. The next one is that of the reduction.

    Args:
        images: float `[n, 3, R, R]`; R is a power of two.
        coarsest: side of the last octave.

    Returns:
        The octaves `[n, 3, S, S]` by their sides S, from R down to `coarsest`, and what is left, half as large.
    """
    found = {}
    while images.shape[-1] >= coarsest:
        reduced = F.avg_pool2d(images, 2)
        found[images.shape[-1]] = images - F.interpolate(reduced, scale_factor=2, mode="bilinear")
        images = reduced
    return found, images
