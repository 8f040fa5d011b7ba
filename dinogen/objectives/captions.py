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

A caption says much, and of one place only little: what it says of hair should not decide which eyes are near. Where it
is known what captions lead one to expect of the features at each location, distances are those of the expectations:

    D_ij = |A (u_i − v_j)|² / its mean,    A u: the linear regression of a location's real features on their captions

Then each location has an x of its own: as many reals stay in play as on coarse maps, but what a caption leads one to
expect weighs at most `MOST_PULL` times what images show. So it does nothing where captions tell nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from dinogen.distributed import gather_rows
from dinogen.pyramid import Pyramid

SHARE_OF_COARSE = 1 / 7  # of the reals that remain in play for a caption, on maps of one location
SHARE_OF_FINE = 1 / 2  # on the finest maps
MOST_PULL = 4.0  # of a squared distance of expected features, in units of one of features
GUIDED = 3.0  # x of what guidance pulls towards, over that of a location
FOUND_ON = 64  # captions of each side, at most, on which a location's x is found
RANK = 16  # numbers that are left of what captions lead one to expect at a location
SHARE_OF_GUIDANCE = 1 / 32  # that guidance pulls towards: what only those with the caption have in common
SHARPNESS = (1e-2, 1e2)  # least and most x
HALVINGS = 20  # of the ratio of these two
FEWER_HALVINGS = 10  # where each location has an x of its own
SMALLEST_VARIANCE = 1e-5  # of captions in a direction that counts, over that in the one in which they vary most
SMALLEST_DISTANCE = 1e-8  # keeps equal captions from dividing by zero


@dataclass(frozen=True)
class Captions:
    """Whitened embeddings, zeros where there is no caption: this rank's share.

    Args:
        generated: `[N, k]`, of what the generated images were drawn with. Drawn independently of the step's reals: with
            the reals' own captions each image finds "its" real one, and the drift becomes a regression to pairs.
        real: `[M, k]`.
        alphas: `[N]`, guidance of each generated image, from 1 up; None is 1.
        expected: what captions lead one to expect, see `expectations`; None takes captions as they are.
    """

    generated: Tensor
    real: Tensor
    alphas: Tensor | None = None
    expected: Mapping[str, Tensor] | None = None


@dataclass
class Weighed:
    """Distances of captions in some problems, and what they weigh.

    Args:
        to_real: D, `[N, M]` or `[l, N, M]`.
        to_generated: E, `[N, N]` or `[l, N, N]`.
        sharpness: x, `[l, 1, 1]`.
        guided: x of what guidance pulls towards, `[l, 1, 1]` or a scalar.
        most: what D may weigh at most in the costs, `[l, 1, 1]`; None is anything.
    """

    to_real: Tensor
    to_generated: Tensor
    sharpness: Tensor
    guided: Tensor
    most: Tensor | None

    def repeated(self, count: int) -> "Weighed":
        """For problems of which each comes `count` times in a row."""
        if count == 1:
            return self
        parts = {name: part for name, part in vars(self).items() if part is not None and part.ndim == 3}
        return replace(self, **{name: part.repeat_interleave(count, dim=0) for name, part in parts.items()})


class CaptionCost:
    """What captions add to the costs of all problems: the same on all ranks.

    Args:
        captions: this rank's; those of all ranks are gathered.
        locations: how many each map has.
        negatives: `[N, k]`, this rank's, of the images that push others away; None where the generated ones do.
    """

    @torch.no_grad()
    def __init__(self, captions: Captions, locations: Mapping[str, int], negatives: Tensor | None = None):
        self.locations = locations
        self.expected = captions.expected
        self.generated, self.real = gather_rows(captions.generated.float()), gather_rows(captions.real.float())
        self.negatives = self.generated if negatives is None else gather_rows(negatives.float())
        # `[N, 1]`, α − 1; None where no image is guided.
        self.guidance = None if captions.alphas is None else gather_rows(captions.alphas.float())[:, None] - 1

    def at(self, names: Sequence[str], map_of: Tensor, part: slice) -> Weighed:
        """Distances in a part of the problems of some maps.

        Args:
            names: of the maps.
            map_of: `[L]`, index into `names` for each problem.
            part: of the problems, in the order of the maps' locations.
        """
        if self.expected is None:
            to_real, to_generated, found, guided = self.whole
            sharpness = torch.stack([found[name] for name in names])[map_of[part]][:, None, None]
            return Weighed(to_real, to_generated, sharpness, guided, None)
        axes = torch.cat([self.expected[name] for name in names])[part]
        to_real, to_generated, unit = distances_between(self.generated, self.real, self.negatives, axes)
        some = to_real[:, :FOUND_ON, :FOUND_ON]
        sharpness = location_sharpness(some, self.generated.any(dim=1)[:FOUND_ON])
        return Weighed(to_real, to_generated, sharpness, GUIDED * sharpness, MOST_PULL * unit)

    @cached_property
    def whole(self) -> tuple[Tensor, Tensor, dict[str, Tensor], Tensor]:
        """Of captions as they are: D, E, x of each map and that of what guidance pulls towards."""
        to_real, to_generated, _ = distances_between(self.generated, self.real, self.negatives)
        sizes = sorted(set(self.locations.values()))
        shares = [share_of_reals(size, sizes[-1]) for size in sizes] + [SHARE_OF_GUIDANCE]
        found = sharpness_for(to_real, self.generated.any(dim=1), to_real.new_tensor(shares))
        sharpness = {name: found[sizes.index(size)] for name, size in self.locations.items()}
        return to_real, to_generated, sharpness, found[-1]


def distances_between(
    generated: Tensor, real: Tensor, negatives: Tensor, axes: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """D, E and the mean by which they were divided.

    Args:
        generated: `[N, k]`, zeros where there is no caption.
        real: `[M, k]`.
        negatives: `[N, k]`, of the images that push the generated ones away.
        axes: `[l, k, r]`, under which to look at captions; None leaves them as they are.

    Returns:
        `[N, M]`, `[N, N]` and a scalar, or `[l, N, M]`, `[l, N, N]` and `[l, 1, 1]` with axes.
    """
    null, null_real, null_negative = (~each.any(dim=1) for each in (generated, real, negatives))
    known, known_negative = ~(null[:, None] | null_real), ~(null[:, None] | null_negative)
    u, v, w = (each if axes is None else each @ axes for each in (generated, real, negatives))
    to_real, to_negative = pair_distances(u, v), pair_distances(u, w)
    mean = (to_real * known).sum(dim=(-2, -1), keepdim=axes is not None) / known.sum().clamp(min=1)
    unit = mean.clamp(min=SMALLEST_DISTANCE)
    return (to_real / unit).where(known, 1.0), (to_negative / unit).where(known_negative, 1.0), unit


def location_sharpness(distances: Tensor, known: Tensor) -> Tensor:
    """x of each location, at which the median caption leaves `SHARE_OF_COARSE` of the reals in play: `[l, 1, 1]`.

    Args:
        distances: D, `[l, N, M]`.
        known: `[N]`, which rows have a caption and count.
    """
    low, high = (torch.full_like(distances[:, :1, :1], math.log(end)) for end in SHARPNESS)
    for _ in range(FEWER_HALVINGS):
        middle = (low + high) / 2
        in_play = effective_number(distances * -middle.exp()) / distances.shape[2]
        median = in_play.where(known, math.nan).nanmedian(dim=1).values[:, None, None]
        low, high = middle.where(median > SHARE_OF_COARSE, low), high.where(median > SHARE_OF_COARSE, middle)
    return low.exp()


def expectations(pyramid: Pyramid, captions: Tensor, image_of: Tensor) -> dict[str, Tensor]:
    """What captions lead one to expect of the features at each location: `[locations, k, r]` for each map.

    For captions u and v and the axes of a location, |(u − v) axes|² is the squared distance of the features that a
    linear regression expects. Chance tells something too: what shuffled captions tell best is taken off.

    Args:
        pyramid: of n real images.
        captions: `[c, k]`, all that these images have.
        image_of: `[c]`, the image of each.
    """
    images, width = len(next(iter(pyramid.values()))), captions.shape[1]
    centred = captions - captions.mean(dim=0)
    values, turn = torch.linalg.eigh((centred.T @ centred).double() / len(captions))
    scale = torch.where(values > values[-1] * SMALLEST_VARIANCE, values.rsqrt(), 0.0)
    to_white = (turn * scale @ turn.T).float()  # what makes captions white
    white = centred.new_zeros(images, width).index_add_(0, image_of, centred @ to_white)
    white = white[torch.bincount(image_of, minlength=images) > 0]
    # Each with the next one's: in random order, as samples come, that is as good as any other shuffling.
    sides, found = torch.stack([white, white.roll(1, 0)]), {}
    for name, level in pyramid.items():
        features = (level.flatten(2).permute(2, 0, 1) if level.ndim == 4 else level[None]).float()
        features = features[:, torch.bincount(image_of, minlength=images) > 0]
        features = features - features.mean(dim=1, keepdim=True)
        told, shuffled = (side.T @ features / len(captions) for side in sides)
        squares, axes = torch.linalg.eigh(told @ told.mT)
        chance = torch.linalg.eigvalsh(shuffled @ shuffled.mT)[:, -1:]
        lengths = (squares - chance).clamp(min=0).sqrt()
        found[name] = (to_white @ axes * lengths[:, None])[:, :, -RANK:].contiguous()
    return found


def pair_distances(u: Tensor, v: Tensor) -> Tensor:
    """Squared distances of `[…, N, k]` and `[…, M, k]`: `[…, N, M]`."""
    squares = u.square().sum(-1)[..., :, None] + v.square().sum(-1)[..., None, :]
    return (squares - 2 * u @ v.mT).clamp_(min=0)


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
