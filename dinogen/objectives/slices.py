"""Fine detail by itself: the pixels' finest octaves match in distribution, place by place, along random axes.

A teacher sees little of the finest octaves, and optimal transport between small sets in many dimensions averages them
away. In one dimension transport is sorting, and it averages nothing (sliced transport, Bonneel et al. 2015). Each step
turns blocks of pixels by a random rotation and sorts generated and real ones along each axis. This is one step of
iterative distribution transfer (Pitié, Kokaram and Dahyot 2007).

A block comes with what lies under it, the coarser part of the image there. So hair's detail goes where hair is: without
it each place gets the right share of hair's and of skin's detail, in any images.

Two sorted sets of one distribution do not agree: what stands third in one lies, on average, nearer to the middle than
the other's third. Images that follow such targets end with too little detail: two thirds of its energy, for sets of 32
at 256 pixels. So each step has two sets of real images, and targets are stretched by what one set lacks of the other.
"""

from collections.abc import Iterator, Sequence

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
SETS = 2  # of real images, each as large as that of the generated ones
LEAST_AGREEMENT = 0.5  # so tiny batches cannot stretch targets without bound
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

    def real_images_each(self, resolution: int) -> int:
        return SETS

    def __call__(self, seen: Seen) -> ObjectiveResult:
        """Statistics: `slices/SIDE`, mean squared way still to go, over the variance of the reals."""
        assert seen.real_images is not None  # `real_images_each` asked for them
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
        p: the same of real ones, `[L, SETS · n, DETAIL + GROUND]`, the sets by turns.
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
    generated, turned = rotation.T @ generated, rotation.T @ real
    sets = [turned[..., each::SETS].sort(dim=2) for each in range(SETS)]
    agreement = agreement_of(sets, real[:, :DETAIL], rotation[:DETAIL])
    targets = torch.stack([values for values, _ in sets]).mean(dim=0)
    middle = targets.mean(dim=2, keepdim=True)
    targets = middle + (targets - middle) / agreement
    moved = torch.empty_like(generated).scatter_(2, generated.argsort(dim=2), targets)
    way = (rotation[:DETAIL] @ (moved - generated)).mT
    return problems_to_rows(way, len(h)), (detail / len(h) / DETAIL).clamp(min=SMALLEST_VARIANCE)


def agreement_of(sets: Sequence[tuple[Tensor, Tensor]], detail: Tensor, rotation: Tensor) -> Tensor:
    """How much of one real set's detail the other set's targets give back, averaged over all ranks' problems.

    It is what a set's detail and its targets have in common, over the detail's variance: 1 for endless sets.

    Args:
        sets: the two, sorted along each axis, and by which order, `[l, DETAIL + GROUND, n]` both.
        detail: of both sets by turns, not turned, `[l, DETAIL, SETS · n]`.
        rotation: its rows of the detail, `[DETAIL, DETAIL + GROUND]`.
    """
    common, variance = detail.new_zeros(2)
    for each, (values, order) in enumerate(sets):
        own = detail[..., each::SETS]
        own = own - own.mean(dim=2, keepdim=True)
        targets = torch.empty_like(values).scatter_(2, order, sets[1 - each][0])
        common += (own * (rotation @ targets)).sum() / own.shape[2]
        variance += own.square().sum() / max(1, own.shape[2] - 1)
    common, variance = sum_over_ranks(torch.stack([common, variance]))
    return (common / variance.clamp(min=1e-12)).clamp(LEAST_AGREEMENT, 1.0)


def slices_terms(config: RunConfig, surroundings: Surroundings) -> Iterator[Term]:
    """The term that `slices:` asks for."""
    if config.slices is not None:
        yield SlicedDetail(config.slices, surroundings.seed)
