"""Requests to stop, from outside and by the clock on the wall."""

import math
import signal
import time
from types import FrameType, TracebackType

LISTENED_TO = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
TIME_IS_UP = 1  # below the number of any signal that is listened to


class StopRequest:
    """While entered, a signal asks the loop to finish its step and save; a second Ctrl-C leaves at once.

    Args:
        max_minutes: ask when so many minutes have passed since it was entered; None never does.
    """

    def __init__(self, max_minutes: float | None):
        self.max_minutes = max_minutes
        self.started = time.monotonic()
        self.signal = 0
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopRequest":
        self.started = time.monotonic()
        self._before = {number: signal.signal(number, self._note) for number in LISTENED_TO}
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def code(self) -> int:
        """The number of the signal that came to this rank, TIME_IS_UP, or 0."""
        return self.signal or (TIME_IS_UP if self.minutes_left <= 0 else 0)

    @property
    def minutes_left(self) -> float:
        return math.inf if self.max_minutes is None else self.max_minutes - (time.monotonic() - self.started) / 60

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number
