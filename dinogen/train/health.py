"""Whether a step may be learnt from: what in it was finite, and on which rank."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from dinogen.distributed import gather_rows, pass_milestone
from dinogen.errors import DinogenError

MOST_BAD_STEPS = 10  # in a row: then the run ends
OF_THE_GRADIENT = ("the gradient at the images", "the gradient")


@dataclass(frozen=True)
class Verdict:
    """What all ranks together say of a step; the same on all of them.

    Args:
        fault: the ranks and the tensor that was not finite first, None when everything was finite.
        scale_only: nothing but gradients was not finite, as happens when the scale of fp16 is too high.
        loss: averaged over the ranks.
        gradient_norm: before clipping.
        stop: the highest of the ranks' requests to stop, 0 without one.
    """

    fault: str | None
    scale_only: bool
    loss: float
    gradient_norm: float
    stop: int


class StepChecks:
    """Looks at a step's tensors in the order in which they arise; nothing waits for the device until the verdict.

    What one rank holds reaches the others through exchanges, so that in the end all of them hold something that is
    not finite. The fault arose with the first tensor that was not finite anywhere, on the ranks where it was not.
    """

    def __init__(self) -> None:
        self.sizes: dict[str, Tensor] = {}

    def look(self, name: str, tensors: Iterable[Tensor]) -> None:
        """Note whether these are finite; a name seen before (the batches of one step) keeps its place."""
        pass_milestone()
        size = get_total_norm([tensor.detach() for tensor in tensors], norm_type=math.inf).float()
        before = self.sizes.get(name)
        self.sizes[name] = size if before is None else before + size

    def verdict(self, loss: Tensor, gradient_norm: Tensor, stop: int) -> Verdict:
        """Exchange with the other ranks: one gather, and the one time in a step that the host waits for the device."""
        names = list(self.sizes)
        row = torch.stack([*self.sizes.values(), loss.float(), gradient_norm.float(), loss.new_full((), stop).float()])
        rows = gather_rows(row[None]).tolist()
        broken = [name for column, name in enumerate(names) if any(not math.isfinite(row[column]) for row in rows)]
        fault = None
        if broken:
            column = names.index(broken[0])
            ranks = [str(rank) for rank, row in enumerate(rows) if not math.isfinite(row[column])]
            fault = f"rank {', '.join(ranks)}: {broken[0]}"
        return Verdict(
            fault=fault,
            scale_only=bool(broken) and set(broken) <= set(OF_THE_GRADIENT),
            loss=sum(row[-3] for row in rows) / len(rows),
            gradient_norm=rows[0][-2],
            stop=int(max(row[-1] for row in rows)),
        )


class BadSteps:
    """Counts the steps that were skipped because something in them was not finite."""

    def __init__(self) -> None:
        self.in_a_row = 0

    def note(self, fault: str) -> None:
        """Count one.

        Raises:
            DinogenError: too many in a row.
        """
        self.in_a_row += 1
        if self.in_a_row >= MOST_BAD_STEPS:
            raise DinogenError(
                f"{self.in_a_row} steps in a row were not finite (first on {fault}); the last checkpoint is intact: "
                "run the same command again with a lower --optimizer.learning_rate, or with --precision no"
            )

    def forget(self) -> None:
        """A step was finite."""
        self.in_a_row = 0
