"""What a person is shown of a run: pyramids as colours."""

import torch
import torch.nn.functional as F
from torch import Tensor

from dinogen.pyramid import Pyramid, PyramidSpec, level_name

TILE = 96  # side of one map in a picture, in pixels
GAP = 4


def principal_colours(maps: Tensor) -> Tensor:
    """Show embeddings as colours: their first three principal components, fitted on all maps together.

    Args:
        maps: `[N, C, g, g]`.

    Returns:
        `[N, 3, g, g]` in [0, 1].
    """
    points = maps.movedim(1, -1).reshape(-1, maps.shape[1]).double()
    points = points - points.mean(dim=0)
    _, vectors = torch.linalg.eigh(points.T @ points)
    axes = vectors[:, -3:].flip(1)
    # An eigenvector's sign is arbitrary; fixing it keeps the colours from flipping between two pictures.
    axes = axes * axes.gather(0, axes.abs().argmax(dim=0, keepdim=True)).sign()
    colours = points @ axes
    low, high = colours.quantile(0.02, dim=0), colours.quantile(0.98, dim=0)
    colours = ((colours - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
    side = maps.shape[-1]
    return colours.reshape(len(maps), side, side, 3).permute(0, 3, 1, 2).float()


def pyramid_picture(images: Tensor, pyramid: Pyramid, spec: PyramidSpec, real_count: int) -> Tensor:
    """Real images left, generated ones right; below each its maps, from coarse to fine, of the last layer.

    Args:
        images: `[N, 3, R, R]` in [-1, 1], the first `real_count` real.
        pyramid: theirs.

    Returns:
        uint8 `[3, H, W]`.
    """
    layer = spec.layers[-1]
    rows = [(images.cpu().clamp(-1, 1) + 1) / 2]
    rows += [principal_colours(pyramid[level_name(layer, g)].cpu()) for g in spec.levels_of(layer) if g > 1]
    lines = []
    for row in rows:
        tiles = F.interpolate(row.float(), size=(TILE, TILE), mode="nearest")
        tiles = F.pad(tiles, (0, GAP, 0, GAP), value=1.0)
        real, generated = tiles[:real_count], tiles[real_count:]
        divider = torch.ones(3, TILE + GAP, 3 * GAP)
        lines.append(torch.cat([*real, divider, *generated], dim=2))
    return (torch.cat(lines, dim=1) * 255).round().to(torch.uint8)
