"""Features drift along a normalised kernel's mean shift (drifting models, arXiv 2602.04770, section 3.2, algorithm 2).

With generated features x, real ones y⁺ and other generated ones y⁻, at each location of each map,

    V(x) = 1 / (Z⁺ Z⁻) · Σ k(x, y⁺) k(x, y⁻) (y⁺ − y⁻),    k(x, y) = exp(−‖x − y‖ / τ)

where distances are measured in units in which their mean over a map is √C, and temperatures in units of √C. It is
antisymmetric: when both distributions agree, nothing moves.
"""

import torch
from torch import Tensor

from dinogen.objectives.sinkhorn import SinkhornDrift, Transport


class KernelDrift(SinkhornDrift):
    """The loss of `SinkhornDrift` with another field: nearby features count by a kernel, no transport is solved.

    Args:
        temperatures: of the kernel, each times the mean distance on a map.
        bands: as there.
    """

    def __init__(self, temperatures: tuple[float, ...] = (0.02, 0.05, 0.2), bands: int = 1):
        super().__init__(temperatures, bands=bands)

    def displacement(self, to_real: Transport, to_generated: Transport, scale: Tensor, temperature: float) -> Tensor:
        """V, `[l, N, C]`, in the features' own units."""
        unit = temperature * to_real.targets.shape[2] ** 0.5 / scale[:, None, None]
        affinity = doubly_normalised(-torch.cat([to_real.cost, to_generated.cost], dim=2).sqrt() / unit)
        attraction, repulsion = affinity.split([to_real.cost.shape[2], to_generated.cost.shape[2]], dim=2)
        pull = torch.bmm(attraction * repulsion.sum(dim=2, keepdim=True), to_real.targets)
        return pull.sub_(torch.bmm(repulsion * attraction.sum(dim=2, keepdim=True), to_generated.targets))


def doubly_normalised(logits: Tensor) -> Tensor:
    """Geometric mean of the softmax over each row and the softmax over each column of `[L, N, M]`; −∞ gives 0."""
    return ((torch.log_softmax(logits, dim=2) + torch.log_softmax(logits, dim=1)) / 2).exp()
