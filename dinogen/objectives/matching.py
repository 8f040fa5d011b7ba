"""The main terms, one after the other: a drift, at last in bands; or the paired baseline."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from dinogen.config import HeadsConfig, ObjectiveConfig, RunConfig
from dinogen.distributed import gather_rows, rank, world_size
from dinogen.objectives.base import ObjectiveResult, Seen, Surroundings, Term
from dinogen.objectives.kernel import KernelDrift
from dinogen.objectives.paired import PairedRegression
from dinogen.objectives.sinkhorn import SinkhornDrift
from dinogen.tensor_files import Shapes


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


class MatchingBefore(Matching):
    """The images of the step before push the generated ones away. What the teacher saw of them is kept, in fp16.

    In the first step of a stage, and where the batch has grown, there are none: then those of the step itself do.

    Args:
        surroundings: of the run.
        others: as for `Matching`.
    """

    keeps = may_lack_groups = True

    def __init__(self, surroundings: Surroundings, *others: Any):
        super().__init__(*others)
        self.file = f"before_{self.name.replace(' ', '_')}"
        self.shapes, self.device = surroundings.specs.shapes(), surroundings.device
        self.resolution = 0  # of those before
        self.before: dict[str, Tensor] = {}
        self.now: dict[str, Tensor] = {}

    def __call__(self, seen: Seen) -> ObjectiveResult:
        now = {f"{name}/features": level.detach().half() for name, level in seen.generated.items()}
        if seen.words is not None:
            now["captions/vectors"] = seen.words.generated.detach()
        before, self.now = self.before, now
        fits = {name: part.shape for name, part in before.items()} == {name: part.shape for name, part in now.items()}
        if not fits or self.resolution != seen.resolution:
            self.resolution, self.before = seen.resolution, {}
            return self.compare(seen.generated, seen.real, seen.words)
        pyramid = {name: before[f"{name}/features"] for name in seen.generated}
        return self.compare(seen.generated, seen.real, seen.words, (pyramid, before.get("captions/vectors")))

    def settle(self, keep: bool) -> None:
        if keep and self.now:
            self.before = self.now
        self.now = {}

    def tensors(self) -> dict[str, Tensor]:
        whole = {name: gather_rows(part) for name, part in self.before.items()}
        return whole | {"stage/resolution": torch.tensor(self.resolution)} if whole else {}

    def expected(self) -> Shapes:
        found: dict[str, tuple[tuple[int | None, ...], torch.dtype | None]] = {
            f"{name}/features": ((None, *shape), torch.float16) for name, shape in self.shapes.items()
        }
        return found | {"captions/vectors": ((None, None), torch.float32), "stage/resolution": ((), torch.int64)}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        images = dict(tensors)
        self.resolution = int(images.pop("stage/resolution"))
        self.before = {name: part.chunk(world_size())[rank()].to(self.device) for name, part in images.items()}


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
            parts_of = (name, compare, begins, ends, config.heads)
            previous = objective.negatives == "previous"
            yield MatchingBefore(surroundings, *parts_of) if previous else Matching(*parts_of)
