"""How far two sets of images are from each other. Tensors only; every set is `[n, d]`, one row an image."""

import torch
from torch import Tensor
from torchmetrics.image.kid import poly_mmd

PRECISION_NEIGHBOUR = 3  # Kynkäänniemi et al. 2019, section 3.1
DENSITY_NEIGHBOUR = 5  # Naeem et al. 2020, section 3


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Fréchet distance between the normal distributions fitted to two sets (arXiv 1706.08500, equation 6).

    It is biased upwards by small sets, so compare distances of equally large sets only.

    With A and B the covariances' triangular roots, trace (Σa Σb)^½ is the sum of the singular values of A Bᵀ. The roots
    have no more rows than there are images, so that few images with many features are cheap.
    """
    means = [x.double().mean(dim=0) for x in (a, b)]
    roots = [torch.linalg.qr(x.double() - mean, mode="r").R / (len(x) - 1) ** 0.5 for x, mean in zip((a, b), means)]
    overlap = torch.linalg.svdvals(roots[0] @ roots[1].T).sum()
    distance = (means[0] - means[1]).square().sum() + sum(root.square().sum() for root in roots) - 2 * overlap
    return max(0.0, distance.item())


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """Squared maximum mean discrepancy under a cubic kernel, unbiased (KID, arXiv 1801.01401, section 4).

    Both sets must be equally large. Around 0, below it as well, for sets of the same distribution.
    """
    return poly_mmd(b.double(), a.double()).item()


def pairwise_distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances `[n, m]` between the rows of `a` `[n, d]` and `b` `[m, d]`, in float64.

    Not by the matrix product that is faster: it leaves equal rows a visible distance apart.
    """
    return torch.cdist(a.double(), b.double(), compute_mode="donot_use_mm_for_euclid_dist")


def distances_among(a: Tensor) -> Tensor:
    """Euclidean distances `[n, n]` between the rows of `a` `[n, d]`; exact to about 1e-7 of the rows' spread."""
    centred = a.double() - a.double().mean(dim=0)
    # Rows of 256×256 pixels are long: here the matrix product pays, and its rounding does not matter.
    return torch.cdist(centred, centred, compute_mode="use_mm_for_euclid_dist")


def mean_pairwise_distance(a: Tensor) -> float:
    """Mean Euclidean distance over all pairs of different rows."""
    return distances_among(a).sum().item() / (len(a) * (len(a) - 1))


def neighbourhood(distances: Tensor, k: int) -> Tensor:
    """Distance `[n]` of each of n points to its k-th nearest other one, from their own distances `[n, n]`."""
    return distances.kthvalue(k + 1, dim=1).values


def fidelity_and_variety(samples: Tensor, reals: Tensor) -> dict[str, float]:
    """Precision and recall (arXiv 1904.06991, equation 1), density and coverage (arXiv 2002.09797, equations 4, 6).

    Precision: share of samples inside the neighbourhood of a real. Recall: share of reals inside that of a
    sample. Density: precision that counts how many neighbourhoods a sample is in, and can exceed 1. Coverage:
    share of reals with a sample in their neighbourhood.

    Args:
        samples: `[n, d]`, n above 5.
        reals: `[m, d]`, m above 5.
    """
    return {name: votes.mean().item() for name, votes in fidelity_and_variety_votes(samples, reals).items()}


def fidelity_and_variety_votes(samples: Tensor, reals: Tensor) -> dict[str, Tensor]:
    """What each image says: the means of these are `fidelity_and_variety`.

    Returns:
        `[n]`, a value a sample, for precision and density; `[m]`, a value a real, for recall and coverage.
    """
    across = pairwise_distances(samples, reals)
    among_reals = pairwise_distances(reals, reals)
    sample_radius = neighbourhood(pairwise_distances(samples, samples), PRECISION_NEIGHBOUR)
    real_radius = neighbourhood(among_reals, PRECISION_NEIGHBOUR)
    wide_radius = neighbourhood(among_reals, DENSITY_NEIGHBOUR)
    return {
        "precision": (across <= real_radius).any(dim=1).double(),
        "recall": (across <= sample_radius[:, None]).any(dim=0).double(),
        "density": (across < wide_radius).double().sum(dim=1) / DENSITY_NEIGHBOUR,
        "coverage": (across.min(dim=0).values < wide_radius).double(),
    }


def nearest(rows: Tensor, reals: Tensor, rank: int = 1) -> tuple[Tensor, Tensor]:
    """The real nearest to each row; with `rank` 2 the second nearest, for rows that are reals themselves.

    Returns:
        Distances `[n]` and row numbers `[n]` in `reals`.
    """
    rows, reals = rows.double(), reals.double()
    centre = reals.mean(dim=0)
    # The matrix product is as good here as in `distances_among`: what is as near as its rounding is a copy.
    mode = "use_mm_for_euclid_dist"
    found = [torch.cdist(some - centre, reals - centre, compute_mode=mode) for some in rows.split(256)]
    found = [distances.kthvalue(rank, dim=1) for distances in found]
    return torch.cat([part.values for part in found]), torch.cat([part.indices for part in found])
