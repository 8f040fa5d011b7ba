"""Steps that are skipped because something in them was not finite."""

from torch import Tensor

from dinogen.distributed import gather_objects, rank
from dinogen.errors import DinogenError


class BadSteps:
    """Counts skipped steps.

    Args:
        most: so many in a row end the run.
    """

    def __init__(self, most: int):
        self.most = most
        self.in_a_row = 0

    def note(self, step: int, statistics: dict[str, Tensor]) -> str:
        """Count a skipped step on all ranks; returns a line that names the ranks and what was not finite there.

        Raises:
            DinogenError: too many in a row.
        """
        self.in_a_row += 1
        broken = sorted(name for name, value in statistics.items() if not value.isfinite())
        where = f"rank {rank()}: {', '.join(broken)}" if broken else ""
        seen = "; ".join(filter(None, gather_objects(where))) or "the gradient only"
        if self.in_a_row >= self.most:
            raise DinogenError(
                f"{self.in_a_row} steps in a row were not finite ({seen}); the last checkpoint is intact: run the "
                "same command again with a lower --train.learning_rate, or with --mixed_precision no for accelerate"
            )
        return f"\nStep {step} skipped, not finite on {seen}."

    def forget(self) -> None:
        """A step was finite."""
        self.in_a_row = 0
