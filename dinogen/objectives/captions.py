"""Captions in the objective: their distance is a part of the transport's costs, so that the joint distributions agree.

With features h, real ones p, captions u of the generated and v of the real images, all transport costs become

    C_ij  = |h_i − p_j|² + λ s D_ij,    D_ij = |u_i − v_j|² / its mean,    s = the mean of |h − p|²
    C'_ik = |h_i − h_k|² + λ s E_ik,    E_ik = |u_i − u_k|² / the same mean

while ε stays that of the features alone, and targets stay features. Where nothing moves, images and captions together
are distributed as real ones, whatever λ > 0 is: it decides how soon. Optimal transport with captions in the cost is
that of C²OT (arXiv 2503.10636). A caption may be null: its distance to any other is the mean.

λ is set by the number of reals that a caption leaves in play, exp of the entropy of a row of softmax(−λ s D / ε), which
depends on x = λ s / ε alone. So x is found once for maps of each size, on captions alone, and λ = x ε / s is as large
as each location's features want it. Maps of whole images may look at few reals. Fine ones, whose places depend on a
caption little, must see half of all.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dinogen.distributed import gather_rows

SHARE_OF_COARSE = 1 / 7  # of the reals that remain in play for a caption, on maps of one location
SHARE_OF_FINE = 1 / 2  # on the finest maps
SHARE_OF_GUIDANCE = 1 / 32  # that guidance pulls towards: what only those with the caption have in common
SHARPNESS = (1e-2, 1e2)  # least and most x
HALVINGS = 20  # of the ratio of these two
SMALLEST_DISTANCE = 1e-8  # keeps equal captions from dividing by zero


@dataclass(frozen=True)
class Captions:
    """Whitened embeddings, zeros where there is no caption: this rank's share.

    Args:
        generated: `[N, k]`, of what the generated images were drawn with. Drawn independently of the step's reals: with
            the reals' own captions each image finds "its" real one, and the drift becomes a regression to pairs.
        real: `[M, k]`.
        alphas: `[N]`, guidance of each generated image, from 1 up; None is 1.
    """

    generated: Tensor
    real: Tensor
    alphas: Tensor | None = None


@dataclass
class CaptionCost:
    """What captions add to the costs of all problems: the same for all locations, and on all ranks.

    Args:
        to_real: D, `[N, M]`, mean 1.
        to_generated: E, `[N, N]`.
        sharpness: x for each map, scalars.
        guidance: `[N, 1]`, α − 1; None where no image is guided.
        guided_sharpness: x of what guidance pulls towards, a scalar.
    """

    to_real: Tensor
    to_generated: Tensor
    sharpness: dict[str, Tensor]
    guidance: Tensor | None
    guided_sharpness: Tensor

    @classmethod
    @torch.no_grad()
    @torch.autocast("cuda", enabled=False)
    @torch.autocast("cpu", enabled=False)
    def between(cls, captions: Captions, locations: Mapping[str, int]) -> "CaptionCost":
        """Of all ranks' captions.

        Args:
            captions: this rank's.
            locations: how many each map has.
        """
        generated, real = gather_rows(captions.generated.float()), gather_rows(captions.real.float())
        null, null_real = ~generated.any(dim=1), ~real.any(dim=1)
        to_real, to_generated = pair_distances(generated, real), pair_distances(generated, generated)
        known = ~(null[:, None] | null_real)
        unit = ((to_real * known).sum() / known.sum().clamp(min=1)).clamp(min=SMALLEST_DISTANCE)
        to_real = (to_real / unit).where(known, 1.0)
        to_generated = (to_generated / unit).where(~(null[:, None] | null), 1.0)
        sizes = sorted(set(locations.values()))
        shares = [share_of_reals(size, sizes[-1]) for size in sizes] + [SHARE_OF_GUIDANCE]
        found = sharpness_for(to_real, ~null, to_real.new_tensor(shares))
        sharpness = {name: found[sizes.index(size)] for name, size in locations.items()}
        guidance = None if captions.alphas is None else gather_rows(captions.alphas.float())[:, None] - 1
        return cls(to_real, to_generated, sharpness, guidance, found[-1])


def pair_distances(u: Tensor, v: Tensor) -> Tensor:
    """Squared distances of `[N, k]` and `[M, k]`: `[N, M]`."""
    return (u.square().sum(1)[:, None] + v.square().sum(1) - 2 * u @ v.T).clamp_(min=0)


def share_of_reals(locations: int, finest: int) -> float:
    """The share of the reals that a caption leaves in play on a map with a number of locations; the finest has most."""
    fineness = math.log(locations) / math.log(finest) if finest > 1 else 0.0
    return SHARE_OF_COARSE * (SHARE_OF_FINE / SHARE_OF_COARSE) ** fineness


def sharpness_for(distances: Tensor, known: Tensor, shares: Tensor) -> Tensor:
    """For each share, the x at which the median row of softmax(−x D) has that share of the columns in play.

    Args:
        distances: D, `[N, M]`.
        known: `[N]`, which rows have a caption and count.
        shares: `[S]`.

    Returns:
        `[S]`, by bisection; the largest possible where too many reals have the same caption for so small a share.
    """
    low, high = (torch.full_like(shares, math.log(end)) for end in SHARPNESS)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        in_play = effective_number(distances * -middle.exp()[:, None, None]) / distances.shape[1]
        median = in_play.where(known, math.nan).nanmedian(dim=1).values
        low, high = middle.where(median > shares, low), high.where(median > shares, middle)
    return low.exp()


def effective_number(logits: Tensor) -> Tensor:
    """exp of the entropy of each row's softmax: `[S, N, M]` to `[S, N]`."""
    logs = logits.log_softmax(dim=2)
    return (logs.exp() * logs).sum(dim=2).neg().exp()
