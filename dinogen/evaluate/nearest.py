"""Copies: for every sample the real image nearest to it, and how near that is for an image of its own."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dinogen.evaluate import bootstrap, metrics

# Measured on portraits, in the detector's features and in pixels. Copies that were compressed, darkened, blurred or
# made noisy lie below it in one of the two. Of 600 different portraits none does; the nearest pair has 0.61.
COPY = 0.5
PIXELS_SIDE = 32  # at which pixels are compared


@dataclass(frozen=True)
class Nearest:
    """The real image nearest to each of n images, in one way of seeing.

    Args:
        distance: `[n]`, in units of the median distance between a real image and the nearest other one.
        row: `[n]`, its row among the reals.
    """

    distance: Tensor
    row: Tensor


@dataclass(frozen=True)
class Neighbours:
    """What is near to samples, and the same of other reals in their place.

    Args:
        ours: of the samples, among the reals.
        others: of the other reals, among the reals without themselves.
        unit: what distances are measured in, see `Nearest`.
    """

    ours: Nearest
    others: Nearest
    unit: float


def neighbours(samples: Tensor, reals: Tensor, first: int, end: int) -> Neighbours:
    """Find them.

    Args:
        samples: `[n, d]`, anything that is alike for images that look alike.
        reals: `[m, d]`.
        first, end: the rows of `reals` that are the other reals.
    """
    distance, row = metrics.nearest(reals[first:end], reals, rank=2)
    unit = distance.median().item() or 1.0
    ours, ours_row = metrics.nearest(samples, reals)
    return Neighbours(Nearest(ours / unit, ours_row), Nearest(distance / unit, row), unit)


def closeness(nearest: Mapping[str, Nearest], among_features: Tensor, unit: float) -> dict[str, Any]:
    """Figures on copies and repetitions, with their `intervals`.

    Args:
        nearest: the nearest reals of n images, by the way of seeing.
        among_features: `[n, d]`, the detector's features of these images.
        unit: of distances in them.
    """
    copied = torch.stack([near.distance < COPY for near in nearest.values()]).any(dim=0).double()
    repeated = (metrics.nearest(among_features, among_features, rank=2)[0] < COPY * unit).double()
    found: dict[str, Any] = {"copies": copied.mean().item(), "repeats": repeated.mean().item()}
    sure = {"copies": bootstrap.mean_interval(copied), "repeats": bootstrap.mean_interval(repeated)}
    for name, near in nearest.items():
        found[f"nearest_real_{name}"] = near.distance.median().item()
        sure[f"nearest_real_{name}"] = bootstrap.median_interval(near.distance)
    return found | {"intervals": sure}
