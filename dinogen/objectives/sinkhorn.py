"""The default objective: features drift along the difference of two entropic optimal transports.

Sinkhorn drift (arXiv 2603.12366, 2605.11755, 2606.00514). At each location of each map, with generated features h,
real ones p and other generated ones q, a feature moves by

    V(h) = T_p(h) − T_q(h)

where T_p(h) is the barycentric target of h under the entropic optimal transport from all h to all p. When both
distributions agree the two targets agree, and nothing moves; while they differ, p attracts and q keeps the samples
apart, which is what stops them from all becoming the same face.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dinogen.distributed import gather_rows, rank, sum_over_ranks, world_size
from dinogen.objectives.base import ObjectiveResult
from dinogen.pyramid import Pyramid

SMALLEST_EPSILON = 1e-8  # keeps constant features from dividing by zero
SMALLEST_RMS = 1e-8


@dataclass
class Problems:
    """All transport problems of one width, side by side: one for each location of each map.

    Args:
        features: `[L, N, C]`.
        names: the maps, in the order of their locations.
        map_of: `[L]`, index into `names` for each problem.
    """

    features: Tensor
    names: list[str]
    map_of: Tensor

    def mean_per_map(self, values: Tensor) -> Tensor:
        """Average `[L]` over each map's locations: `[len(names)]`."""
        total = values.new_zeros(len(self.names)).index_add_(0, self.map_of, values)
        return total / self.map_of.bincount(minlength=len(self.names))


def group_by_width(pyramid: Pyramid) -> list[Problems]:
    """Stack a pyramid's maps into one `[L, N, C]` tensor for each width C (embeddings apart from colours)."""
    by_width: dict[int, dict[str, Tensor]] = {}
    for name, level in pyramid.items():
        locations = level.flatten(2).permute(2, 0, 1) if level.ndim == 4 else level[None]
        by_width.setdefault(level.shape[1], {})[name] = locations
    return [
        Problems(
            features=torch.cat(list(maps.values())),
            names=list(maps),
            map_of=torch.repeat_interleave(
                torch.arange(len(maps)), torch.tensor([len(locations) for locations in maps.values()])
            ).to(next(iter(maps.values())).device),
        )
        for maps in by_width.values()
    ]


def squared_distances(h: Tensor, p: Tensor) -> Tensor:
    """`[L, N, C]` and `[L, M, C]` to `[L, N, M]`, all at least zero."""
    squares = h.square().sum(2)[:, :, None] + p.square().sum(2)[:, None, :]
    return squares.baddbmm_(h, p.transpose(1, 2), alpha=-2).clamp_(min=0)


def transport_targets(cost: Tensor, epsilon: Tensor, iterations: int, targets: Tensor, rows: slice) -> Tensor:
    """Barycentric targets under the entropic plan between uniform marginals: `[L, rows, C]`.

    Sinkhorn's iteration (Peyré and Cuturi, Computational Optimal Transport, section 4.2). Its first round is done in
    the log domain. After it the rows of the plan sum to one and none of its columns to less than 1/M, so that the
    rounds that follow only scale rows and columns, by moderate numbers, and need no exponential.

    Args:
        cost: `[L, N, M]`; infinite where a pair is forbidden.
        epsilon: `[L, 1, 1]`, the regularisation.
        iterations: rounds of column and row updates.
        targets: `[L, M, C]`.
        rows: the rows whose targets are wanted.
    """
    logits = cost * (-1 / epsilon)
    logits -= logits.logsumexp(dim=1, keepdim=True)
    plan = logits.softmax(dim=2)
    row = torch.ones_like(plan[:, :, :1])
    column = torch.ones_like(targets[:, :, :1])
    mass = plan.shape[1] / plan.shape[2]  # of a column when each row has one
    for _ in range(iterations - 1):
        column = torch.bmm(plan.transpose(1, 2), row).reciprocal_() * mass
        row = torch.bmm(plan, column).reciprocal_()
    return torch.bmm(plan[:, rows], column * targets).mul_(row[:, rows])


@dataclass
class Transport:
    """Costs from h to one set of targets, and the barycentric targets under them."""

    cost: Tensor
    targets: Tensor
    deviation: Tensor  # [L, 1, 1] standard deviation of the allowed costs
    distance: Tensor  # [L] mean distance over the allowed pairs

    @classmethod
    def between(cls, h: Tensor, targets: Tensor, mask_diagonal: bool = False) -> "Transport":
        cost = squared_distances(h, targets)
        forbidden = cost.shape[1] if mask_diagonal else 0
        count = cost[0].numel() - forbidden
        if mask_diagonal:
            cost.diagonal(dim1=1, dim2=2).zero_()
        mean = cost.sum(dim=(1, 2), keepdim=True) / count
        squares = torch.linalg.vector_norm(cost, dim=(1, 2), keepdim=True).square() / count
        deviation = (squares - mean.square()).clamp(min=0).sqrt()
        distance = cost.sqrt().sum(dim=(1, 2)) / count
        if mask_diagonal:
            cost.diagonal(dim1=1, dim2=2).fill_(math.inf)
        return cls(cost, targets, deviation, distance)

    def barycentric(self, temperature: float, iterations: int, rows: slice) -> Tensor:
        """T(h) for this rank's rows: `[L, N, C]`."""
        epsilon = (temperature * self.deviation).clamp(min=SMALLEST_EPSILON)
        return transport_targets(self.cost, epsilon, iterations, self.targets, rows)


class SinkhornDrift:
    """Loss whose gradient moves generated features along the drift, map by map with equal weight.

    Args:
        temperatures: each times the standard deviation of a problem's costs is a regularisation ε.
        iterations: Sinkhorn rounds.
    """

    def __init__(self, temperatures: tuple[float, ...] = (0.05,), iterations: int = 3):
        self.temperatures = temperatures
        self.iterations = iterations

    def __call__(self, generated: Pyramid, real: Pyramid, other: Pyramid | None = None) -> ObjectiveResult:
        """See `Objective`. Without `other` the samples repel each other, none itself."""
        losses, statistics = [], {}
        others = group_by_width(other) if other is not None else [None] * len(generated)
        for h, p, q in zip(group_by_width(generated), group_by_width(real), others):
            loss, of_maps = self.drift_loss(h, p, q)
            losses.append(loss)
            statistics |= of_maps
        return ObjectiveResult(loss=torch.cat(losses).mean(), statistics=statistics)

    def drift_loss(self, h: Problems, p: Problems, q: Problems | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of each map of one width, and their raw displacement norms."""
        drift, scale, norms, spread = self.drift(h, p, q)
        scaled = h.features * scale[h.map_of][:, None, None]
        target = (scaled + drift).detach()
        per_problem = (scaled - target).square().mean(dim=(1, 2))
        statistics = {f"displacement/{name}": norm for name, norm in zip(h.names, norms)}
        statistics |= {f"spread/{name}": ratio for name, ratio in zip(h.names, spread)}
        return h.mean_per_map(per_problem), statistics

    @torch.no_grad()
    @torch.autocast("cuda", enabled=False)
    @torch.autocast("cpu", enabled=False)
    def drift(self, h: Problems, p: Problems, q: Problems | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Where every feature should move.

        Returns:
            The drift V `[L, N, C]` of this rank's features, for features times scale; the scale of each map,
            which makes the mean distance √C; the RMS of V on each map before it was normalised; and on each map
            the mean distance among generated features over that to real ones (near 1 when they agree, near 0
            when the generator has collapsed).
        """
        local = h.features.float()
        rows = slice(rank() * local.shape[1], (rank() + 1) * local.shape[1])
        # Distances do not depend on the origin, and near it their rounding errors are smallest.
        origin = gather_rows(p.features.float(), dim=1).mean(dim=1, keepdim=True)
        h_all = gather_rows(local, dim=1) - origin
        to_real = Transport.between(h_all, gather_rows(p.features.float(), dim=1) - origin)
        if q is None:
            to_generated = Transport.between(h_all, h_all, mask_diagonal=True)
        else:
            to_generated = Transport.between(h_all, gather_rows(q.features.float(), dim=1) - origin)

        width = local.shape[2]
        distance = h.mean_per_map((to_real.distance + to_generated.distance) / 2)
        scale = math.sqrt(width) / distance.clamp(min=SMALLEST_RMS)
        drift = torch.zeros_like(local)
        norms = torch.zeros_like(scale)
        for temperature in self.temperatures:
            displacement = self.displacement(to_real, to_generated, scale[h.map_of], temperature, rows)
            mean_square = sum_over_ranks(h.mean_per_map(displacement.square().mean(dim=(1, 2)))) / world_size()
            rms = mean_square.sqrt()
            drift += displacement / rms.clamp(min=SMALLEST_RMS)[h.map_of][:, None, None]
            norms += rms * scale / len(self.temperatures)
        spread = h.mean_per_map(to_generated.distance) / h.mean_per_map(to_real.distance).clamp(min=SMALLEST_RMS)
        return drift, scale, norms, spread

    def displacement(
        self, to_real: Transport, to_generated: Transport, scale: Tensor, temperature: float, rows: slice
    ) -> Tensor:
        """Towards the real targets and away from the generated ones, not yet normalised: `[L, rows, C]`.

        Args:
            to_real, to_generated: from all h.
            scale: `[L]`, makes each map's mean distance √C; this field needs none.
            temperature: one of the objective's.
            rows: this rank's.
        """
        displacement = to_real.barycentric(temperature, self.iterations, rows)
        return displacement.sub_(to_generated.barycentric(temperature, self.iterations, rows))
