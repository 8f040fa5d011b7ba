"""How far two sets of images are from each other. Tensors only; every set is `[n, d]`, one row an image."""

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import poly_mmd

PRECISION_NEIGHBOUR = 3  # Kynkäänniemi et al. 2019, section 3.1
DENSITY_NEIGHBOUR = 5  # Naeem et al. 2020, section 3
BOOTSTRAP_ROUNDS = 1000
CONFIDENCE = 0.95


class ReadyFeatures(nn.Module):
    """Stands where torchmetrics wants a feature network: the features have been computed already."""

    def __init__(self, num_features: int):
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Fréchet distance between the normal distributions fitted to two sets (arXiv 1706.08500, equation 6).

    It is biased upwards by small sets, so compare distances of equally large sets only.
    """
    metric = FrechetInceptionDistance(feature=ReadyFeatures(a.shape[1])).set_dtype(torch.float64)
    metric.update(b.double(), real=True)
    metric.update(a.double(), real=False)
    return max(0.0, metric.compute().item())


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


def mean_pairwise_distance(a: Tensor) -> float:
    """Mean Euclidean distance over all pairs of different rows; exact to about 1e-7 of the rows' spread."""
    centred = a.double() - a.double().mean(dim=0)
    # Rows of 256×256 pixels are long: here the matrix product pays, and its rounding does not matter.
    return torch.cdist(centred, centred, compute_mode="use_mm_for_euclid_dist").sum().item() / (len(a) * (len(a) - 1))


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
    across = pairwise_distances(samples, reals)
    among_reals = pairwise_distances(reals, reals)
    sample_radius = neighbourhood(pairwise_distances(samples, samples), PRECISION_NEIGHBOUR)
    real_radius = neighbourhood(among_reals, PRECISION_NEIGHBOUR)
    wide_radius = neighbourhood(among_reals, DENSITY_NEIGHBOUR)
    return {
        "precision": (across <= real_radius).any(dim=1).double().mean().item(),
        "recall": (across <= sample_radius[:, None]).any(dim=0).double().mean().item(),
        "density": (across < wide_radius).double().sum(dim=1).mean().item() / DENSITY_NEIGHBOUR,
        "coverage": (across.min(dim=0).values < wide_radius).double().mean().item(),
    }


def nearest(rows: Tensor, reals: Tensor, rank: int = 1) -> tuple[Tensor, Tensor]:
    """The real nearest to each row; with `rank` 2 the second nearest, for rows that are reals themselves.

    Returns:
        Distances `[n]` and row numbers `[n]` in `reals`.
    """
    found = [pairwise_distances(some, reals).kthvalue(rank, dim=1) for some in rows.split(256)]
    return torch.cat([part.values for part in found]), torch.cat([part.indices for part in found])


def bootstrap_interval(values: Tensor, seed: int = 0) -> list[float]:
    """95% interval of the mean of `values` `[n]`, from means of resampled sets (Efron's percentile bootstrap)."""
    rows = torch.randint(len(values), (BOOTSTRAP_ROUNDS, len(values)), generator=torch.Generator().manual_seed(seed))
    means = values.double()[rows].mean(dim=1)
    tail = (1 - CONFIDENCE) / 2
    return means.quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
