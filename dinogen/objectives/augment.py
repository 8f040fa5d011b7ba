"""Differentiable augmentation (DiffAugment, arXiv 2006.10738): heads that see every image differently each time cannot
learn the training images by heart, and the generator gets its gradient through the same changes."""

import torch
import torch.nn.functional as F
from torch import Tensor

DRAWS = 7  # random numbers an image
SHIFT = 1 / 8  # of the side, at most
HOLE = 1 / 2  # of the side


def augment(images: Tensor, draws: Tensor) -> Tensor:
    """Change colours, shift by whole pixels, and cut a square hole.

    Args:
        images: `[N, 3, R, R]` in [-1, 1].
        draws: `[N, 7]` in [0, 1), on the same device; decide what happens to each image.

    Returns:
        The same shape; what is shifted in or cut out is 0.
    """
    brightness, saturation, contrast, *places = draws.to(images.dtype)[:, :, None, None, None].unbind(1)
    images = images + (brightness - 0.5)
    grey = images.mean(dim=1, keepdim=True)
    images = grey + (images - grey) * (2 * saturation)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = mean + (images - mean) * (contrast + 0.5)
    up, left, hole_row, hole_column = (place.flatten() for place in places)
    return cut_out(shift(images, up, left), hole_row, hole_column)


def shift(images: Tensor, up: Tensor, left: Tensor) -> Tensor:
    """By up to an eighth of the side; `up` and `left` `[N]` in [0, 1), below a half the other way."""
    side = images.shape[-1]
    most = int(side * SHIFT + 0.5)
    padded = F.pad(images, (most,) * 4)
    here = torch.arange(side, device=images.device)
    rows, columns = ((x * (2 * most + 1)).long()[:, None] + here for x in (up, left))
    index = torch.arange(len(images), device=images.device)[:, None, None]
    # Indexing by three tensors around a slice puts the slice's dimension, the colours, last.
    return padded[index, :, rows[:, :, None], columns[:, None, :]].movedim(3, 1)


def cut_out(images: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """A square hole of half the side around a point, which `row` and `column` `[N]` in [0, 1) place anywhere."""
    side = images.shape[-1]
    here = torch.arange(side, device=images.device) + 0.5
    inside_rows, inside_columns = ((here - x[:, None] * side).abs() < side * HOLE / 2 for x in (row, column))
    hole = inside_rows[:, :, None] & inside_columns[:, None, :]
    return images * ~hole[:, None]
