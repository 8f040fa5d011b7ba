"""Fine detail by itself: the pixels' finest octaves match in distribution, place by place, along random axes.

A teacher sees little of the finest octaves, and optimal transport between small sets in many dimensions averages them
away. In one dimension transport is sorting, and it averages nothing (sliced transport, Bonneel et al. 2015). Each step
turns blocks of pixels by a random rotation and sorts generated and real ones along each axis. This is one step of
iterative distribution transfer (Pitié, Kokaram and Dahyot 2007).

A block comes with what lies under it, the coarser part of the image there. So hair's detail goes where hair is: without
it each place gets the right share of hair's and of skin's detail, in any images.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from dinogen.config import RunConfig, SlicesConfig
from dinogen.distributed import means_over_ranks, problems_to_rows, rows_to_problems, sum_over_ranks
from dinogen.objectives.base import ObjectiveResult, Seen, Surroundings, Term
from dinogen.octaves import octaves

BLOCK = 8  # pixels a side
DETAIL = 3 * BLOCK**2  # numbers of a block
GROUND = 3 * (BLOCK // 2) ** 2  # numbers of what lies under it
OCTAVES = 2  # the finest
PLACES = 256  # blocks of an octave in one step, at most: a part of them does, as the grid moves from step to step
SMALLEST_VARIANCE = 1e-5  # about that of rounding to 8 bits


class SlicedDetail(Term):
    """See the module.

    Args:
        config: when and how much.
        seed: of the rotations.
    """

    name = "slices"
    compares_pyramids = False

    def __init__(self, config: SlicesConfig, seed: int):
        self.config, self.seed = config, seed
        self.begins = config.from_kimg * 1000

    def is_on(self, cur_nimg: int, resolution: int) -> bool:
        return cur_nimg >= self.begins and resolution >= self.config.from_resolution

    def weight_at(self, cur_nimg: int, resolution: int) -> float:
        return self.config.weight

    def wants_images(self, resolution: int) -> bool:
        return True

    def __call__(self, seen: Seen) -> ObjectiveResult:
        """Statistics: `slices/SIDE`, mean squared way still to go, over the variance of the reals."""
        assert seen.real_images is not None  # `wants_images` asked for them
        # A function of the clock: the same on all ranks, and after a resume.
        rng = torch.Generator().manual_seed(self.seed * 1_000_003 + seen.cur_nimg)
        shift = torch.randint(BLOCK, (2,), generator=rng).tolist()
        axes = torch.randn(DETAIL + GROUND, DETAIL + GROUND, generator=rng)
        rotation = torch.linalg.qr(axes).Q.to(seen.images.device)
        coarsest = seen.resolution >> (OCTAVES - 1)
        ours, theirs = (octaves(images, coarsest)[0] for images in (seen.images, seen.real_images))
        losses: dict[str, Tensor] = {}
        for side, octave in ours.items():
            h = blocks(octave, shift)
            some = torch.randperm(len(h), generator=rng)[:PLACES].to(h.device)
            h, p = h[some], blocks(theirs[side], shift)[some]
            generated = torch.cat([h.detach(), ground(seen.images, octave, shift, some)], dim=2)
            real = torch.cat([p, ground(seen.real_images, theirs[side], shift, some)], dim=2)
            way, variance = ways(generated, real, rotation)
            losses[f"slices/{side}"] = (h - (h + way).detach()).square().mean() / variance
        return ObjectiveResult(torch.stack(list(losses.values())).mean(), means_over_ranks(losses))


def blocks(images: Tensor, shift: list[int]) -> Tensor:
    """Blocks of pixels of `[n, 3, S, S]`, the grid moved by `shift`: `[L, n, 3 · BLOCK²]`."""
    moved = images[:, :, shift[0] :, shift[1] :]
    return moved.unfold(2, BLOCK, BLOCK).unfold(3, BLOCK, BLOCK).permute(2, 3, 0, 1, 4, 5).flatten(3).flatten(0, 1)


@torch.no_grad()
def ground(images: Tensor, octave: Tensor, shift: list[int], some: Tensor) -> Tensor:
    """What lies under `some` blocks of an octave: the image of that size without it, `[len(some), n, GROUND]`."""
    side = octave.shape[-1]
    under = blocks(F.avg_pool2d(images, images.shape[-1] // side) - octave, shift)[some]
    return F.avg_pool2d(under.unflatten(2, (3, BLOCK, BLOCK)).flatten(0, 1), 2).flatten(1).unflatten(0, under.shape[:2])


@torch.no_grad()
@torch.autocast("cuda", enabled=False)
@torch.autocast("cpu", enabled=False)
def ways(h: Tensor, p: Tensor, rotation: Tensor) -> tuple[Tensor, Tensor]:
    """Where each of this rank's blocks should move along the axes of a rotation, and the variance of the real ones.

    Args:
        h: `[L, n, DETAIL + GROUND]`, generated blocks with what lies under them, which counts but does not move.
        p: the same of real ones.
        rotation: `[DETAIL + GROUND, DETAIL + GROUND]`, orthonormal.

    Returns:
        `[L, n, DETAIL]`, and a scalar.
    """
    generated, real = (rows_to_problems(x.float()).mT for x in (h, p))
    total = (real - real.mean(dim=2, keepdim=True)).square().mean(dim=2)
    detail, under = sum_over_ranks(torch.stack([part.sum() for part in total.split([DETAIL, GROUND], dim=1)]))
    # Both parts count alike, however much more there is of what lies under the detail.
    scale = (detail / under.clamp(min=SMALLEST_VARIANCE)).sqrt()
    for each in (generated, real):
        each[:, DETAIL:] *= scale
    generated, real = rotation.T @ generated, rotation.T @ real
    moved = torch.empty_like(generated).scatter_(2, generated.argsort(dim=2), real.sort(dim=2).values)
    way = (rotation[:DETAIL] @ (moved - generated)).mT
    return problems_to_rows(way, len(h)), (detail / len(h) / DETAIL).clamp(min=SMALLEST_VARIANCE)


def slices_terms(config: RunConfig, surroundings: Surroundings) -> Iterator[Term]:
    """The term that `slices:` asks for."""
    if config.slices is not None:
        yield SlicedDetail(config.slices, surroundings.seed)
