"""The loss is a sum of terms, each with one interface, a beginning, an end, and what it keeps."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dinogen.kept import Kept
from dinogen.objectives.captions import Captions
from dinogen.pyramid import Pyramid, StagedSpec
from dinogen.tensor_files import Shapes


@dataclass
class ObjectiveResult:
    """What a term, or the whole loss, says of one batch.

    Args:
        loss: scalar with gradient; averaging its gradient over the ranks gives that of the whole batch.
        statistics: scalars to log, detached, equal on all ranks.
        checks: scalars of this rank that must be finite, in the order in which they arose, by what they stand for:
            a fault is traced to the first that is not.
    """

    loss: Tensor
    statistics: dict[str, Tensor] = field(default_factory=dict)
    checks: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Seen:
    """A step's images and what the teacher sees in them: this rank's share.

    Args:
        generated: pyramid of N generated images, with gradient; empty if no term on `compares_pyramids`.
        real: pyramid of M real images, likewise. All ranks' together are in an order that does not depend on their
            number.
        images: the generated images, `[N, 3, R, R]` in [-1, 1], with gradient.
        real_images: of the real ones as many as terms ask for, evenly spread: `[k · N, 3, R, R]`, of which each k-th
            stands for one generated image where terms compare as many; None where no term asks.
        cur_nimg: the clock, in real images.
        words: captions of both, embedded; None in a run without text.
    """

    generated: Pyramid
    real: Pyramid
    images: Tensor
    real_images: Tensor | None
    cur_nimg: int
    words: Captions | None = None

    @property
    def as_many_real_images(self) -> Tensor:
        """As many real images as generated ones, for terms that asked for one each."""
        assert self.real_images is not None
        return self.real_images[:: len(self.real_images) // len(self.images)]

    @property
    def resolution(self) -> int:
        return self.images.shape[-1]


@dataclass(frozen=True)
class Surroundings:
    """What a term may need of the run around it.

    Args:
        specs: of the teacher's pyramids.
        look: the teacher, in the precision of training; a collective where the teacher is sharded.
        device: where this rank computes.
        seed: of the run.
    """

    specs: StagedSpec
    look: Callable[[Tensor], Pyramid]
    device: torch.device
    seed: int


class Term(Kept):
    """One term of the loss.

    Attributes:
        name: for people; unique among the terms of a run.
        begins: clock from which it is on, in images.
        ends: clock from which it is off again.
        keeps: whether it has something to keep in a checkpoint, see `Kept`.
        compares_pyramids: whether it looks at what the teacher sees.
    """

    name = ""
    begins = 0.0
    ends = math.inf
    keeps = False
    compares_pyramids = True
    joins_late = True

    def is_on(self, cur_nimg: int, resolution: int) -> bool:
        """Whether it takes part at a clock reading and a stage."""
        return self.begins <= cur_nimg < self.ends

    def weight_at(self, cur_nimg: int, resolution: int) -> float:
        """Factor of its loss."""
        return 1.0

    def real_images_each(self, resolution: int) -> int:
        """How many real images it looks at for each generated one, not only at their pyramids."""
        return 0

    def __call__(self, seen: Seen) -> ObjectiveResult:
        """Compare generated images with real ones."""
        raise NotImplementedError

    def settle(self, keep: bool) -> None:
        """At the end of a step: remember what it saw, or forget it where the step was skipped."""

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def expected(self) -> Shapes:
        return {}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        pass


class Loss:
    """The sum of those terms that are on."""

    def __init__(self, terms: list[Term]):
        self.terms = terms

    def __call__(self, seen: Seen) -> ObjectiveResult:
        total, statistics, checks = None, {}, {}
        for term in self.on(seen.cur_nimg, seen.resolution):
            result = term(seen)
            weighted = term.weight_at(seen.cur_nimg, seen.resolution) * result.loss
            total = weighted if total is None else total + weighted
            statistics |= result.statistics
            checks |= result.checks
        assert total is not None, "no term is on"
        return ObjectiveResult(total, statistics, checks)

    def on(self, cur_nimg: int, resolution: int) -> list[Term]:
        """The terms that take part at a clock reading and a stage."""
        return [term for term in self.terms if term.is_on(cur_nimg, resolution)]

    def names(self, cur_nimg: int, resolution: int) -> str:
        """Those terms' names, for people."""
        return " + ".join(term.name for term in self.on(cur_nimg, resolution))

    def real_images_each(self, cur_nimg: int, resolution: int) -> int:
        """How many real images terms look at now for each generated one, at most."""
        return max((term.real_images_each(resolution) for term in self.on(cur_nimg, resolution)), default=0)

    def compares_pyramids(self, cur_nimg: int, resolution: int) -> bool:
        """Whether some term looks at what the teacher sees now."""
        return any(term.compares_pyramids for term in self.on(cur_nimg, resolution))

    def changes(self) -> set[float]:
        """The clock readings at which a term begins or ends."""
        return {clock for term in self.terms for clock in (term.begins, term.ends) if math.isfinite(clock)}

    def settle(self, keep: bool) -> None:
        """Tell all terms how the step ended."""
        for term in self.terms:
            term.settle(keep)
