"""The main terms, one after the other: a drift, at last in bands; or the paired baseline."""

import math
from collections.abc import Callable, Iterator

from dinogen.config import HeadsConfig, ObjectiveConfig, RunConfig
from dinogen.objectives.base import ObjectiveResult, Seen, Surroundings, Term
from dinogen.objectives.kernel import KernelDrift
from dinogen.objectives.paired import PairedRegression
from dinogen.objectives.sinkhorn import SinkhornDrift


class Matching(Term):
    """Compares pyramids during a part of the run.

    Args:
        name: for people.
        compare: what compares a generated with a real pyramid and, where there are any, their captions.
        begins, ends: clock readings in images.
        heads: those beside it, which say how much it counts while they are on.
    """

    def __init__(
        self,
        name: str,
        compare: Callable[..., ObjectiveResult],
        begins: float,
        ends: float,
        heads: HeadsConfig | None,
    ):
        self.name, self.compare, self.begins, self.ends, self.heads = name, compare, begins, ends, heads

    def __call__(self, seen: Seen) -> ObjectiveResult:
        words = () if seen.words is None else (seen.words,)
        return self.compare(seen.generated, seen.real, *words)

    def weight_at(self, cur_nimg: int, resolution: int) -> float:
        if self.heads is None or not self.heads.are_on(cur_nimg, resolution):
            return 1.0
        return self.heads.drift_weight


def make_drift(config: ObjectiveConfig, bands: int = 1) -> SinkhornDrift:
    """The drift that a config names."""
    if config.name == "kernel":
        return KernelDrift(tuple(config.temperatures), bands=bands)
    return SinkhornDrift(tuple(config.temperatures), bands=bands)


def matching_terms(config: RunConfig, surroundings: Surroundings) -> Iterator[Term]:
    """The terms that `objective:` asks for; exactly one is on at a time, after the warm-up."""
    objective = config.objective
    start = config.warmup_nimg
    if objective.name == "paired":
        yield Matching("paired", PairedRegression(), start, math.inf, config.heads)
        return
    banded = max(start, objective.bands_from_kimg * 1000) if objective.bands > 1 else math.inf
    parts = (
        (objective.name, make_drift(objective), start, banded),
        (f"{objective.name} in {objective.bands} bands", make_drift(objective, objective.bands), banded, math.inf),
    )
    for name, compare, begins, ends in parts:
        if begins < ends:
            yield Matching(name, compare, begins, ends, config.heads)
