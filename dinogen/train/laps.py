"""A stopwatch for the parts of a training step."""

import time

import torch

PARTS: tuple[str, ...] = ("generator", "teacher", "loss", "rest")


class Laps:
    """Seconds of a step's parts, forward and backward.

    It is off until `start`: each reading waits for the device.

    Args:
        device: where the step computes.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self.last: float | None = None

    def start(self) -> None:
        """Begin at zero."""
        self.seconds, self.last = dict.fromkeys(PARTS, 0.0), now(self.device)

    def lap(self, part: str) -> None:
        """The time since the last lap was this part's."""
        if self.last is not None:
            before, self.last = self.last, now(self.device)
            self.seconds[part] += self.last - before

    def stop(self) -> dict[str, float]:
        """Seconds by part; what is left goes to the rest."""
        self.lap("rest")
        self.last = None
        return self.seconds


def now(device: torch.device) -> float:
    """Seconds on a clock that has waited for what the device was given to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
