"""Requests to stop, from outside."""

import signal
from types import FrameType, TracebackType

LISTENED_TO = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """While entered, a signal asks the loop to finish its step and save; a second Ctrl-C leaves at once.

    Attributes:
        signal: the number of the signal that came to this rank, None so far.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopRequest":
        self._before = {number: signal.signal(number, self._note) for number in LISTENED_TO}
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number
