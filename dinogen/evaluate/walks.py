"""Whether walks between faces are smooth: a generator that learned a list of faces jumps from one to the next."""

from dataclasses import dataclass

from torch import Tensor

from dinogen.evaluate.metrics import mean_pairwise_distance
from dinogen.networks import Generator
from dinogen.sample import WordsOf, interpolation_strip

WALKS = 8
FRAMES = 16
SMALLEST_STEP = 1e-6


@dataclass(frozen=True)
class Smoothness:
    """How evenly walks change, all by distances between pixels.

    Args:
        largest_step: the largest step between two frames over the median step of its walk, in the worst of all walks.
        ends: distance between a walk's ends over the distance between two samples, on average; near 0 the ends are one
            face.
    """

    largest_step: float
    ends: float


def measure_walks(generator: Generator, samples: Tensor, seed: int, words: WordsOf | None = None) -> Smoothness:
    """Walk between pairs of faces in equal steps of style.

    Args:
        generator: draws the walks.
        samples: uint8 `[n, 3, R, R]` of the same generator.
        seed: of the walks.
        words: of the samples; None is none. A walk keeps its own.
    """
    walks = interpolation_strip(generator, WALKS, FRAMES, seed, words=words).unflatten(0, (WALKS, FRAMES))
    return smoothness(walks, mean_pairwise_distance(samples.flatten(1)))


def smoothness(walks: Tensor, distance_between_samples: float) -> Smoothness:
    """`Smoothness` of uint8 walks `[walks, frames, 3, R, R]`."""
    frames = walks.double().flatten(2)
    steps = (frames[:, 1:] - frames[:, :-1]).norm(dim=2)
    largest = steps.max(dim=1).values / steps.median(dim=1).values.clamp(min=SMALLEST_STEP)
    ends = (frames[:, -1] - frames[:, 0]).norm(dim=1).mean().item()
    return Smoothness(largest.max().item(), ends / distance_between_samples if distance_between_samples > 0 else 0.0)
