"""Distributions in the plane that an objective moves points towards."""

import torch
from torch import Tensor

from dinogen.config import ObjectiveConfig
from dinogen.objectives.matching import make_drift
from dinogen.objectives.paired import PairedRegression
from dinogen.objectives.sinkhorn import Problems


def problems(features: Tensor, maps: int = 1) -> Problems:
    """`[L, N, C]` as the locations of `maps` maps of equal size."""
    of_map = torch.arange(maps).repeat_interleave(len(features) // maps)
    return Problems(features, [f"map{m}" for m in range(maps)], of_map)


def flow(name: str, steps: int = 400) -> Tensor:
    """Points `[256, 2]` that start in one spot, trained directly by an objective towards two modes at x = ±2."""
    rng = torch.Generator().manual_seed(0)
    points = torch.nn.Parameter(torch.randn(256, 2, generator=rng) * 0.1)
    objective = PairedRegression() if name == "paired" else make_drift(ObjectiveConfig(name=name))
    optimizer = torch.optim.Adam([points], lr=0.02)
    for _ in range(steps):
        side = torch.randint(0, 2, (256, 1), generator=rng) * 2.0 - 1
        real = torch.cat([2 * side, torch.zeros(256, 1)], dim=1) + 0.2 * torch.randn(256, 2, generator=rng)
        optimizer.zero_grad()
        objective({"cls": points}, {"cls": real}).loss.backward()
        optimizer.step()
    return points.detach()


def share_at_modes(points: Tensor) -> tuple[float, float]:
    modes = torch.tensor([[-2.0, 0.0], [2.0, 0.0]])
    at = torch.cdist(points, modes) < 0.7
    return at[:, 0].float().mean().item(), at[:, 1].float().mean().item()
