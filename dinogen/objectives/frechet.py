"""A Fréchet loss: the mean and the covariance of generated features approach those of real ones.

The Fréchet distance between two normal distributions (arXiv 1706.08500, equation 6) needs many more images than a batch
holds. So both distributions' moments are remembered over many batches, older ones fading; the gradient flows through
the current batch alone. Its gradient in a feature h is that of a regression to where optimal transport between the two
normal distributions takes it,

    T(h) = μ_r + A (h − μ_g),    A = Σ_r^½ (Σ_r^½ Σ_g Σ_r^½)^−½ Σ_r^½

(Peyré and Cuturi, Computational Optimal Transport, remark 2.31): the same form as the drift, with nothing to
differentiate through.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dinogen.config import FrechetConfig, RunConfig
from dinogen.distributed import gather_rows
from dinogen.objectives.base import ObjectiveResult, Seen, Surroundings, Term
from dinogen.pyramid import Pyramid, StagedSpec
from dinogen.tensor_files import Shapes

MEMORY = 10_000
RIDGE = 1e-3  # of the mean variance: keeps directions in which there is next to nothing from being blown up
SMALLEST_VARIANCE = 1e-8  # of constant features, whose distance is divided by it


@dataclass
class Moments:
    """Mean `[C]` and covariance `[C, C]` of features, older ones fading, and how many images they rest on."""

    mean: Tensor
    covariance: Tensor
    weight: float

    @classmethod
    def of(cls, features: Tensor) -> "Moments":
        """Of one batch `[n, C]`."""
        centred = features - features.mean(dim=0)
        return cls(features.mean(dim=0), centred.T @ centred / len(features), float(len(features)))

    def joined(self, new: "Moments", half_life: float) -> "Moments":
        """With a further batch; what is `half_life` images old counts half."""
        old_weight = self.weight * 0.5 ** (new.weight / half_life)
        weight = old_weight + new.weight
        share, gap = new.weight / weight, new.mean - self.mean
        covariance = (1 - share) * self.covariance + share * new.covariance
        covariance += share * (1 - share) * torch.outer(gap, gap)
        return Moments(self.mean + share * gap, covariance, weight)

    @property
    def variance(self) -> Tensor:
        """Of all components together: the covariance's trace."""
        return self.covariance.diagonal().sum()


class FrechetLoss(Term):
    """See the module. Applies to the class token and to the maps of one location, whose features are whole images'.

    Args:
        config: when and how much.
        specs: of the teacher's pyramids.
        device: where the moments lie.
        memory: images after which a remembered one counts half.
    """

    name = file = "frechet"
    keeps = True

    def __init__(self, config: FrechetConfig, specs: StagedSpec, device: torch.device, memory: float = MEMORY):
        self.begins = config.from_kimg * 1000
        self.weight, self.specs, self.device, self.memory = config.weight, specs, device, memory
        self.remembered: dict[str, Moments] = {}
        self.proposed: dict[str, Moments] = {}

    def weight_at(self, cur_nimg: int, resolution: int) -> float:
        return self.weight

    def __call__(self, seen: Seen) -> ObjectiveResult:
        return self.compare(seen.generated, seen.real)

    def compare(self, generated: Pyramid, real: Pyramid) -> ObjectiveResult:
        """The loss is relative to the reals' variance and vanishes when the moments agree.

        Statistics: `frechet/MAP`, the squared Fréchet distance over the reals' variance.
        """
        losses, statistics = [], {}
        for name, level in generated.items():
            if level[0].numel() == level.shape[1]:
                loss, distance = self.of_map(name, level.flatten(1), real[name].flatten(1))
                losses.append(loss)
                statistics[f"frechet/{name}"] = distance
        return ObjectiveResult(loss=torch.stack(losses).mean(), statistics=statistics)

    @torch.autocast("cuda", enabled=False)
    @torch.autocast("cpu", enabled=False)
    def of_map(self, name: str, generated: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and relative distance for this rank's features `[N, C]`, `[M, C]`."""
        generated = generated.float()
        with torch.no_grad():
            ours = self.joined(f"{name}/generated", gather_rows(generated))
            reals = self.joined(f"{name}/real", gather_rows(real.float()))
            transport, distance = gaussian_transport(ours, reals)
            target = reals.mean + (generated - ours.mean) @ transport
            unit = reals.variance.clamp(min=SMALLEST_VARIANCE)
        return (generated - target).square().sum(dim=1).mean() / unit, distance / unit

    def joined(self, name: str, features: Tensor) -> Moments:
        """The moments with a further batch, which are remembered once the step has turned out well."""
        new = Moments.of(features)
        before = self.proposed.get(name, self.remembered.get(name))
        self.proposed[name] = new if before is None else before.joined(new, self.memory)
        return self.proposed[name]

    def settle(self, keep: bool) -> None:
        """At the end of a step: remember its batches, or forget them."""
        if keep:
            self.remembered |= self.proposed
        self.proposed = {}

    def tensors(self) -> dict[str, Tensor]:
        return {
            f"{name}/{part}": torch.as_tensor(value, dtype=torch.float64 if part == "weight" else None)
            for name, moments in self.remembered.items()
            for part, value in vars(moments).items()
        }

    def expected(self) -> Shapes:
        return {
            f"{name}/{whose}/{part}": (dimensions, None)
            for name, (width, *places) in self.specs.shapes().items()
            if math.prod(places) == 1
            for whose in ("generated", "real")
            for part, dimensions in (("mean", (width,)), ("covariance", (width, width)), ("weight", ()))
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        for name in {key.rsplit("/", 1)[0] for key in tensors}:
            mean, covariance = (tensors[f"{name}/{part}"].to(self.device) for part in ("mean", "covariance"))
            self.remembered[name] = Moments(mean, covariance, tensors[f"{name}/weight"].item())


def gaussian_transport(ours: Moments, reals: Moments) -> tuple[Tensor, Tensor]:
    """The matrix A `[C, C]` that takes one normal distribution to the other, and their squared Fréchet distance."""
    identity = torch.eye(len(ours.mean), device=ours.mean.device)
    # What is not finite shows in the means, and so in the loss; decomposing it would end the run instead of the step.
    finite = [torch.nan_to_num(moments.covariance, 0.0, 0.0, 0.0) for moments in (ours, reals)]
    a, b = (covariance + RIDGE * covariance.diagonal().mean() * identity for covariance in finite)
    root = symmetric_power(b, 0.5)
    middle = root @ a @ root
    values = torch.linalg.eigvalsh(middle).clamp(min=0)
    distance = (ours.mean - reals.mean).square().sum() + a.trace() + b.trace() - 2 * values.sqrt().sum()
    return root @ symmetric_power(middle, -0.5) @ root, distance.clamp(min=0)


def symmetric_power(matrix: Tensor, power: float) -> Tensor:
    """A power of a symmetric matrix without negative eigenvalues; those near zero are held above it."""
    values, vectors = torch.linalg.eigh(matrix)
    values = values.clamp(min=(values[-1] * 1e-7).clamp(min=torch.finfo(matrix.dtype).tiny))
    return (vectors * values**power) @ vectors.T


def frechet_terms(config: RunConfig, surroundings: Surroundings) -> Iterator[Term]:
    """The term that `frechet:` asks for."""
    if config.frechet is not None:
        yield FrechetLoss(config.frechet, surroundings.specs, surroundings.device)
