"""The averaged generator: what users get."""

import copy

import torch
from torch import nn

from dinogen.networks import Generator


def make_ema(generator: Generator) -> Generator:
    """A frozen copy to average into."""
    return copy.deepcopy(generator).eval().requires_grad_(False)


@torch.no_grad()
def update_ema(average: nn.Module, model: nn.Module, beta: float) -> None:
    """Move the average towards the model: `average = beta · average + (1 − beta) · model`."""
    lerp = torch._foreach_lerp_  # pyright: ignore[reportPrivateImportUsage]
    lerp(list(average.parameters()), list(model.parameters()), 1 - beta)
