"""The default objective: features drift along the difference of two entropic optimal transports.

Sinkhorn drift (arXiv 2603.12366, 2605.11755, 2606.00514). At each location of each map, with generated features h,
real ones p and other generated ones q, a feature moves by

    V(h) = T_p(h) − T_q(h)

where T_p(h) is the barycentric target of h under the entropic optimal transport from all h to all p. The q are the
other h of the batch: none is matched with itself. When both
distributions agree the two targets agree, and nothing moves; while they differ, p attracts and q keeps the samples
apart, which is what stops them from all becoming the same face.

That the targets agree holds only between sets of one size: among more points each h finds nearer ones, and its target
lies nearer to it. With more real features than generated ones the drift would push the samples apart for ever. So the
real ones are transported to in groups as large as the set of the generated ones, and T_p is the mean of their targets.

A plan follows what varies most, in patches their colour and contrast; of the rest it knows only the mean given that,
and nothing keeps the variance of fine structure right. So features may be split along the principal axes of the real
ones into bands, from what varies most to what varies least, with a plan and a drift of equal size for each.

The q may also be the generated images of the step before. They are independent of h, as p are. Among one set of images
each extreme one lacks itself, and the others are there in just the numbers that h have: that is not so of p, and it
counts where captions leave few images in play. In a toy with captions samples then keep 0.93 of their spread, not 0.89.

The locations are independent problems. Each rank holds its own images' features at all of them; the ranks exchange
these, so that each solves its share of the problems with everybody's features, and send back where each should move.
Against gathering all features everywhere, what a rank receives and computes falls with the number of ranks.

Captions, where there are any, add a part to all costs (`captions.py`). Guidance α then exaggerates them: V gains α − 1
times where captions draw h among the real features, compared with where it would be drawn without them.
"""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from dinogen.distributed import problems_to_rows, rows_to_problems, share_of, sum_over_ranks
from dinogen.objectives.base import ObjectiveResult
from dinogen.objectives.captions import CaptionCost, Captions
from dinogen.pyramid import Pyramid

SMALLEST_EPSILON = 1e-8  # keeps constant features from dividing by zero
SMALLEST_RMS = 1e-8
SOME_LOCATIONS = 32  # at a time: a matrix [C, C] for each of all would be gigabytes


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

    def sum_per_map(self, values: Tensor, part: slice = slice(None)) -> Tensor:
        """Sum `[l, …]`, of a part of the problems, over each map's locations: `[len(names), …]`."""
        return values.new_zeros(len(self.names), *values.shape[1:]).index_add_(0, self.map_of[part], values)

    def map_of_share(self) -> Tensor:
        """`map_of` for this rank's share of the problems: `[l]`."""
        return self.map_of[share_of(len(self.map_of))]

    def locations(self) -> Tensor:
        """How many problems each map has: `[len(names)]`."""
        return self.map_of.bincount(minlength=len(self.names))

    def mean_per_map(self, values: Tensor) -> Tensor:
        """Average `[L]` over each map's locations: `[len(names)]`."""
        return self.sum_per_map(values) / self.locations()

    def mean_over_ranks(self, values: Tensor) -> Tensor:
        """Average over each map's locations, each rank with `[l, K]` of its share: `[len(names), K]`."""
        total = sum_over_ranks(self.sum_per_map(values, share_of(len(self.map_of))))
        return total / self.locations()[:, None]


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


def transport_targets(cost: Tensor, epsilon: Tensor, iterations: int, targets: Tensor) -> Tensor:
    """Barycentric targets of all rows under the entropic plan between uniform marginals: `[L, N, C]`.

    Sinkhorn's iteration (Peyré and Cuturi, Computational Optimal Transport, section 4.2). Its first round is done in
    the log domain. After it the rows of the plan sum to one and none of its columns to less than 1/M, so that the
    rounds that follow only scale rows and columns, by moderate numbers, and need no exponential.

    Args:
        cost: `[L, N, M]`; infinite where a pair is forbidden.
        epsilon: `[L, 1, 1]`, the regularisation.
        iterations: rounds of column and row updates.
        targets: `[L, M, C]`.
    """
    logits = cost * (-1 / epsilon)
    logits -= torch.logsumexp(logits, dim=1, keepdim=True)
    plan = logits.softmax(dim=2)
    row = torch.ones_like(plan[:, :, :1])
    column = torch.ones_like(targets[:, :, :1])
    mass = plan.shape[1] / plan.shape[2]  # of a column when each row has one
    for _ in range(iterations - 1):
        column = torch.bmm(plan.transpose(1, 2), row).reciprocal_() * mass
        row = torch.bmm(plan, column).reciprocal_()
    # The plan's columns are scaled, not the targets: features are wider than a plan is high.
    return torch.bmm(plan.mul_(column.transpose(1, 2)), targets).mul_(row)


@dataclass
class Transport:
    """Costs from all h to one set of targets, and the barycentric targets under them, for some of the problems.

    Args:
        cost: `[l, N, M]`.
        targets: `[l, M, C]`.
        deviation: `[l, 1, 1]`, standard deviation of the allowed costs.
        distance: `[l]`, mean distance over the allowed pairs.
        check: not finite where one of the costs is not.
        captions: `[N, M]` or `[l, N, M]`, distances of captions, and `[l, 1, 1]`, what they weigh in the costs for
            each unit of temperature; None without them.
        most: `[l, 1, 1]`, what they weigh at most at any temperature; None is anything.
    """

    cost: Tensor
    targets: Tensor
    deviation: Tensor
    distance: Tensor
    check: Tensor
    captions: tuple[Tensor, Tensor] | None = None
    most: Tensor | None = None

    @classmethod
    def between(cls, h: Tensor, targets: Tensor, mask_diagonal: bool = False) -> "Transport":
        """From `[l, N, C]` to `[l, M, C]`; `mask_diagonal`: the targets are h, none may become itself."""
        cost = squared_distances(h, targets)
        count = cost.shape[1] * cost.shape[2]
        itself = cost.diagonal(dim1=1, dim2=2)
        if mask_diagonal:
            itself.zero_()
            count -= cost.shape[2]
        total = cost.sum(dim=(1, 2))
        mean, distance = total / count, cost.sqrt().sum(dim=(1, 2)) / count
        if mask_diagonal:
            itself.copy_(mean[:, None])
        squares = (cost - mean[:, None, None]).square_().sum(dim=(1, 2), keepdim=True)
        if mask_diagonal:
            itself.fill_(math.inf)
        return cls(cost, targets, (squares / count).sqrt(), distance, check=total.sum())

    def barycentric(self, temperature: float, iterations: int, groups: int = 1) -> Tensor:
        """T(h): `[l, N, C]`; the mean over groups of targets, each with a plan of its own."""
        epsilon = self.epsilon(temperature).repeat_interleave(groups, dim=0)
        cost = self.joint_cost(temperature).unflatten(2, (groups, -1)).transpose(1, 2).flatten(0, 1)
        targets = self.targets.unflatten(1, (groups, -1)).flatten(0, 1)
        return transport_targets(cost, epsilon, iterations, targets).unflatten(0, (-1, groups)).mean(dim=1)

    def epsilon(self, temperature: float) -> Tensor:
        """The regularisation, `[l, 1, 1]`, of the features' costs alone."""
        return (temperature * self.deviation).clamp(min=SMALLEST_EPSILON)

    def joint_cost(self, temperature: float) -> Tensor:
        """The costs of features and captions, `[l, N, M]`."""
        if self.captions is None:
            return self.cost
        distances, weight = self.captions
        weight = temperature * weight
        return torch.addcmul(self.cost, weight if self.most is None else weight.minimum(self.most), distances)

    def caption_pull(self, temperature: float) -> Tensor:
        """Where captions draw each h: the softmax mean of targets with their cost, less that without, `[l, N, C]`."""
        epsilon = self.epsilon(temperature)
        plans = [(cost * (-1 / epsilon)).softmax(dim=2) for cost in (self.joint_cost(temperature), self.cost)]
        return torch.bmm(plans[0].sub_(plans[1]), self.targets)


@dataclass
class Bands:
    """Splits the features of this rank's share of the problems into bands of equal width, each a problem of its own.

    Args:
        count: B, the bands.
        axes: `[maps, C, C]`, orthonormal, an axis a column; None with one band, which is the features as they are.
        locations: how many of the share belong to each map.
    """

    count: int
    axes: Tensor | None
    locations: list[int]

    @classmethod
    def along_principal_axes(cls, real: Tensor, h: Problems, count: int) -> "Bands":
        """Of each map's real features, centred `[l, M, C]`; one band if C is not a multiple of `count`."""
        width = real.shape[2]
        if count == 1 or width % count:
            return cls(1, None, [])
        locations = h.map_of_share().bincount(minlength=len(h.names)).tolist()
        # In float64, so that close eigenvalues change places with the number of ranks as good as never.
        scatter = real.new_zeros(len(h.names), width, width, dtype=torch.float64)
        for of_map, features in zip(scatter, real.split(locations)):
            for some in features.split(SOME_LOCATIONS):
                of_map += torch.bmm(some.transpose(1, 2), some).double().sum(dim=0)
        ascending = torch.linalg.eigh(sum_over_ranks(scatter)).eigenvectors
        return cls(count, ascending.flip(2).float(), locations)

    def split(self, features: Tensor) -> Tensor:
        """`[l, N, C]` to `[l·B, N, C/B]`."""
        if self.axes is None:
            return features
        parts = zip(features.split(self.locations), self.axes)
        turned = torch.cat([part @ axes for part, axes in parts])
        return turned.unflatten(2, (self.count, -1)).transpose(1, 2).flatten(0, 1)

    def join(self, features: Tensor) -> Tensor:
        """The inverse of `split`."""
        if self.axes is None:
            return features
        turned = features.unflatten(0, (-1, self.count)).transpose(1, 2).flatten(2)
        parts = zip(turned.split(self.locations), self.axes)
        return torch.cat([part @ axes.T for part, axes in parts])

    def mean_per_map(self, values: Tensor, h: Problems) -> Tensor:
        """Average `[l·B, K]` over each map's locations on all ranks: `[maps, B, K]`."""
        of_location = values.unflatten(0, (-1, self.count)).flatten(1)
        return h.mean_over_ranks(of_location).unflatten(1, (self.count, -1))


class Drift(NamedTuple):
    """Where every feature of one width should move.

    Args:
        displacement: `[L, n, C]`, the drift V of this rank's features, for features times `scale`.
        scale: `[maps]`, makes the mean distance of each map √C.
        norms: `[maps]`, the RMS of V on each map before it was normalised.
        spread: `[maps]`, mean distance among generated features over that to real ones (near 1 when they agree, near 0
            when the generator has collapsed); with bands the mean of theirs.
        checks: as in `ObjectiveResult`.
    """

    displacement: Tensor
    scale: Tensor
    norms: Tensor
    spread: Tensor
    checks: dict[str, Tensor]


class SinkhornDrift:
    """Loss whose gradient moves generated features along the drift, map by map with equal weight.

    Args:
        temperatures: each times the standard deviation of a problem's costs is a regularisation ε.
        iterations: Sinkhorn rounds.
        bands: of embeddings, each with a plan of its own; colours and other maps whose width is not a multiple of it
            stay whole.
    """

    def __init__(self, temperatures: tuple[float, ...] = (0.05,), iterations: int = 3, bands: int = 1):
        self.temperatures = temperatures
        self.iterations = iterations
        self.bands = bands

    def __call__(
        self,
        generated: Pyramid,
        real: Pyramid,
        words: Captions | None = None,
        before: tuple[Pyramid, Tensor | None] | None = None,
    ) -> ObjectiveResult:
        """The loss of this rank's share: N generated images with gradient, M real ones, and their captions.

        Args:
            generated, real, words: of this step.
            before: N images generated in the step before, and their captions; None lets those of this step push each
                other away.
        """
        losses, statistics = [], {}
        checks: dict[str, Tensor] = {}
        captions, negatives = None, before or (None, None)
        if words is not None:
            locations = {name: level[0, 0].numel() for name, level in generated.items()}
            captions = CaptionCost(words, locations, negatives[1])
        sets = group_by_width(generated)
        others = [None] * len(sets) if negatives[0] is None else group_by_width(negatives[0])
        for h, p, q in zip(sets, group_by_width(real), others):
            drift = self.drift(h, p, captions, q)
            losses.append(drift_loss(h, drift))
            statistics |= {f"displacement/{name}": norm for name, norm in zip(h.names, drift.norms)}
            statistics |= {f"spread/{name}": ratio for name, ratio in zip(h.names, drift.spread)}
            checks = {name: value + checks.get(name, 0) for name, value in drift.checks.items()}
        return ObjectiveResult(loss=torch.cat(losses).mean(), statistics=statistics, checks=checks)

    @torch.no_grad()
    @torch.autocast("cuda", enabled=False)
    @torch.autocast("cpu", enabled=False)
    def drift(self, h: Problems, p: Problems, captions: CaptionCost | None = None, q: Problems | None = None) -> Drift:
        """Where every feature should move, in float32 whatever the mixed precision."""
        # Distances do not depend on the origin, and near it their rounding errors are smallest.
        real = rows_to_problems(p.features).float()
        origin = real.mean(dim=1, keepdim=True)
        real = real - origin
        bands = Bands.along_principal_axes(real, h, self.bands)
        generated = bands.split(rows_to_problems(h.features.float()) - origin)
        to_real = Transport.between(generated, bands.split(real))
        if q is None:
            to_generated = Transport.between(generated, generated, mask_diagonal=True)
        else:
            negatives = bands.split(rows_to_problems(q.features).float() - origin)
            to_generated = Transport.between(generated, negatives)
        of_problem = h.map_of_share()
        weighed = None
        if captions is not None:
            weighed = captions.at(h.names, h.map_of, share_of(len(h.map_of))).repeated(bands.count)
            weight = weighed.sharpness * to_real.deviation
            to_real = replace(to_real, captions=(weighed.to_real, weight), most=weighed.most)
            to_generated = replace(to_generated, captions=(weighed.to_generated, weight), most=weighed.most)

        distances = bands.mean_per_map(torch.stack([to_real.distance, to_generated.distance], dim=1), h)
        distance = distances.mean(dim=2).clamp(min=SMALLEST_RMS)
        band_scale = (math.sqrt(generated.shape[2]) / distance)[of_problem].flatten()
        fields = [self.displacement(to_real, to_generated, band_scale, each) for each in self.temperatures]
        if captions is not None and weighed is not None and captions.guidance is not None:
            sharp = replace(to_real, captions=(weighed.to_real, weighed.guided * to_real.deviation))
            for field, each in zip(fields, self.temperatures):
                field.addcmul_(captions.guidance, sharp.caption_pull(each))
        rms = bands.mean_per_map(torch.stack([field.square().mean(dim=(1, 2)) for field in fields], dim=1), h).sqrt()
        total = torch.zeros_like(generated)
        for field, size in zip(fields, rms.clamp(min=SMALLEST_RMS)[of_problem].flatten(0, 1).unbind(dim=1)):
            total += field / size[:, None, None]
        total = bands.join(total)
        scale = math.sqrt(total.shape[2]) / distance.square().sum(dim=1).sqrt()
        norms = rms.square().mean(dim=1).sqrt().mean(dim=1) * scale
        spread = (distances[..., 1] / distances[..., 0].clamp(min=SMALLEST_RMS)).mean(dim=1)
        checks = {"the transport's costs": to_real.check + to_generated.check, "the drift": total.sum()}
        return Drift(problems_to_rows(total, len(h.map_of)), scale, norms, spread, checks)

    def displacement(self, to_real: Transport, to_generated: Transport, scale: Tensor, temperature: float) -> Tensor:
        """Towards the real targets and away from the generated ones, not yet normalised: `[l, N, C]`.

        Args:
            to_real, to_generated: from h, for this rank's share of the problems.
            scale: `[l]`, makes the mean distance √C on each map, or in each of its bands; this field needs none.
            temperature: one of the objective's.
        """
        groups = equal_groups(to_real.targets.shape[1], to_generated.targets.shape[1])
        displacement = to_real.barycentric(temperature, self.iterations, groups)
        return displacement.sub_(to_generated.barycentric(temperature, self.iterations))


def equal_groups(count: int, smallest: int) -> int:
    """The most groups that `count` features divide into evenly, with at least `smallest` in each; 1 if none does."""
    return next(groups for groups in range(max(1, count // smallest), 0, -1) if count % groups == 0)


def drift_loss(h: Problems, drift: Drift) -> Tensor:
    """Mean squared distance from where the drift leads, of each map: `[maps]`, with gradient through `h` alone."""
    scaled = h.features * drift.scale[h.map_of][:, None, None]
    target = (scaled + drift.displacement).detach()
    return h.mean_per_map((scaled - target).square().mean(dim=(1, 2)))
