"""The one interface of all objectives."""

from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from dinogen.pyramid import Pyramid


@dataclass
class ObjectiveResult:
    """What an objective says of one batch.

    Args:
        loss: scalar with gradient; averaging its gradient over the ranks gives that of the whole batch.
        statistics: scalars to log, detached, equal on all ranks.
        checks: scalars of this rank that must be finite, in the order in which they arose, by what they stand for:
            a fault is traced to the first that is not.
    """

    loss: Tensor
    statistics: dict[str, Tensor] = field(default_factory=dict)
    checks: dict[str, Tensor] = field(default_factory=dict)


class Objective(Protocol):
    def __call__(self, generated: Pyramid, real: Pyramid, other: Pyramid | None = None) -> ObjectiveResult:
        """Compare this rank's share of a batch.

        Args:
            generated: pyramid of N generated images, with gradient.
            real: pyramid of M real images, some of them a bank's. All ranks' together are in an order that does not
                depend on the number of ranks.
            other: pyramid of further generated images, without gradient; None where the objective makes do
                with `generated`.
        """
        ...
