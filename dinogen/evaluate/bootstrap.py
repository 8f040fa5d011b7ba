"""How sure a figure is: 95% intervals from resampled sets (Efron's bootstrap). Every set is `[n, d]`, one row an image.

A set drawn with replacement holds some images twice. A pair of an image and itself says nothing of the distribution,
so the figures that are means over pairs leave such pairs out.
"""

import math

import torch
from torch import Tensor
from torchmetrics.image.kid import poly_kernel

from dinogen.evaluate.metrics import distances_among, frechet_distance

ROUNDS = 1000
FRECHET_ROUNDS = 100  # each takes a singular value decomposition
CONFIDENCE = 0.95
NORMAL_QUANTILE = 1.959964  # of CONFIDENCE, two-sided

Interval = list[float] | None  # None where it cannot be given: most of the images are the same


def resampled_rows(count: int, rounds: int, seed: int) -> Tensor:
    """Row numbers of `rounds` sets drawn with replacement, `[rounds, count]`."""
    return torch.randint(count, (rounds, count), generator=torch.Generator().manual_seed(seed))


def resampled_counts(count: int, seed: int) -> Tensor:
    """How often each image is in each of the resampled sets, float64 `[ROUNDS, count]`."""
    rows = resampled_rows(count, ROUNDS, seed)
    return torch.zeros(ROUNDS, count, dtype=torch.float64).scatter_add_(1, rows, torch.ones_like(rows).double())


def middle(values: Tensor) -> Interval:
    """The middle 95% of `values`."""
    tail = (1 - CONFIDENCE) / 2
    ends = values.double().quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64))
    return ends.tolist() if ends.isfinite().all() else None


def mean_interval(values: Tensor, seed: int = 0) -> Interval:
    """Of the mean of `values` `[n]`."""
    return middle(values.double()[resampled_rows(len(values), ROUNDS, seed)].mean(dim=1))


def median_interval(values: Tensor, seed: int = 0) -> Interval:
    """Of the median of `values` `[n]`."""
    return middle(values.double()[resampled_rows(len(values), ROUNDS, seed)].median(dim=1).values)


def mean_over_pairs(values: Tensor, counts: Tensor) -> Tensor:
    """Mean of `values` `[n, n]` over the pairs of different images in each resampled set, `[ROUNDS]`."""
    total = (counts @ values * counts).sum(dim=1) - counts.square() @ values.diagonal()
    return total / (counts.sum(dim=1).square() - counts.square().sum(dim=1))


def diversity_interval(rows: Tensor, reference: Tensor) -> Interval:
    """Of the mean distance between two of `rows` over that between two of the `reference`."""
    ours = mean_over_pairs(distances_among(rows), resampled_counts(len(rows), seed=0))
    theirs = mean_over_pairs(distances_among(reference), resampled_counts(len(reference), seed=1))
    return middle(ours / theirs)


def kernel_interval(a: Tensor, b: Tensor) -> Interval:
    """Of `metrics.kernel_distance`."""
    a, b = a.double(), b.double()
    of_a, of_b = resampled_counts(len(a), seed=0), resampled_counts(len(b), seed=1)
    across = ((of_a @ poly_kernel(a, b)) * of_b).sum(dim=1) / (len(a) * len(b))
    return middle(mean_over_pairs(poly_kernel(a, a), of_a) + mean_over_pairs(poly_kernel(b, b), of_b) - 2 * across)


def frechet_interval(a: Tensor, b: Tensor, distance: float) -> Interval:
    """Of `metrics.frechet_distance`, around its value `distance`: 1.96 standard deviations of the resampled ones.

    Not their middle, because the distance is biased upwards, and more so in a set that holds images twice.
    """
    rows_a = resampled_rows(len(a), FRECHET_ROUNDS, seed=0)
    rows_b = resampled_rows(len(b), FRECHET_ROUNDS, seed=1)
    found = torch.tensor([frechet_distance(a[some], b[others]) for some, others in zip(rows_a, rows_b)])
    margin = NORMAL_QUANTILE * found.std().item()
    if not math.isfinite(distance + margin):
        return None
    return [max(0.0, distance - margin), distance + margin]
