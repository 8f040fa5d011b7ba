"""The warm-up: each generated image is regressed to the real one whose code it was drawn from, octave by octave.

Plain squared errors are nearly all of coarse structure. Here each octave counts in units of its own variance over the
real images, so that what makes one eye different from another is learned from the first step.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from dinogen.config import RunConfig
from dinogen.distributed import means_over_ranks, sum_over_ranks, world_size
from dinogen.objectives.base import ObjectiveResult, Seen, Surroundings, Term
from dinogen.octaves import octaves

COARSEST = 8  # pixels a side of the last octave
SMALLEST_VARIANCE = 1e-8  # of flat images


class OctaveRegression(Term):
    """See the module.

    Args:
        ends: the clock reading at which the warm-up is over.
    """

    name = "octaves"
    compares_pyramids = False

    def __init__(self, ends: float):
        self.ends = ends

    def real_images_each(self, resolution: int) -> int:
        return 1

    def __call__(self, seen: Seen) -> ObjectiveResult:
        """Statistics: `octaves/SIDE`, squared error over variance; 1 is no better than the mean image."""
        losses: dict[str, Tensor] = {}
        ours, theirs = (self.parts(images) for images in (seen.images, seen.as_many_real_images))
        for side, part in ours.items():
            error = (part - theirs[side]).square().mean()
            losses[f"octaves/{side}"] = error / variance_over_ranks(theirs[side]).clamp(min=SMALLEST_VARIANCE)
        return ObjectiveResult(torch.stack(list(losses.values())).mean(), means_over_ranks(losses))

    def parts(self, images: Tensor) -> dict[int, Tensor]:
        """The octaves by their sides, and what is left."""
        found, rest = octaves(images, COARSEST)
        return {**found, rest.shape[-1]: rest}


@torch.no_grad()
def variance_over_ranks(images: Tensor) -> Tensor:
    """Mean over all pixels of the variance over all ranks' images `[n, 3, S, S]`."""
    count = len(images) * world_size()
    mean = sum_over_ranks(images.sum(dim=0)) / count
    return sum_over_ranks((images - mean).square().sum(dim=0)).mean() / count


def warmup_terms(config: RunConfig, surroundings: Surroundings) -> Iterator[Term]:
    """The term that `warmup:` asks for."""
    if config.warmup is not None:
        yield OctaveRegression(config.warmup_nimg)
