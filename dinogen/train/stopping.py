"""Requests to stop, from outside and by wall time."""

import math
import signal
import time
from types import FrameType, TracebackType
from typing import Any

from dinogen.config import RunConfig
from dinogen.terminal import let_go, open_terminals

LISTENED_TO = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
TIME_IS_UP = 1
SIGNAL_CAME = 128  # and the signal's number, as shells count; above TIME_IS_UP


class StopRequest:
    """While entered, a signal asks the loop to finish its step and save; a second Ctrl-C leaves at once.

    Args:
        max_minutes: minutes after which it asks, since it was entered; None never does.
    """

    def __init__(self, max_minutes: float | None):
        self.max_minutes = max_minutes
        self.started = time.monotonic()
        self.signal = 0
        self._before: dict[int, Any] = {}
        self._terminals: list[int] = []

    def __enter__(self) -> "StopRequest":
        self.started = time.monotonic()
        self._terminals = open_terminals()
        # Under nohup a closed terminal is to be ignored.
        heard = [n for n in LISTENED_TO if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._note) for number in heard}
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def code(self) -> int:
        """What asks this rank to stop: SIGNAL_CAME + the number of a signal, TIME_IS_UP, or 0 for nothing."""
        return SIGNAL_CAME + self.signal if self.signal else TIME_IS_UP if self.minutes_left <= 0 else 0

    @property
    def minutes_left(self) -> float:
        return math.inf if self.max_minutes is None else self.max_minutes - (time.monotonic() - self.started) / 60

    @property
    def time_used(self) -> float:
        """The part of `max_minutes` that has passed; 0 without such a limit."""
        return 0.0 if self.max_minutes is None else 1 - self.minutes_left / self.max_minutes

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        if number == signal.SIGHUP:
            let_go(self._terminals)
        self.signal = number


def describe_end(code: int, cur_nimg: int, config: RunConfig) -> str:
    """What ended a launch, for people.

    Args:
        code: what asked it to stop, see `StopRequest.code`.
        cur_nimg: the clock at the end.
    """
    total = config.schedule.total_kimg
    at = f"at {cur_nimg / 1000:.4g} of {total:g} kimg"
    if code > SIGNAL_CAME:
        return f"stopped by {signal.Signals(code - SIGNAL_CAME).name} {at}"
    if cur_nimg >= total * 1000:
        return f"finished, all {total:g} kimg of schedule.total_kimg"
    return f"stopped after {config.machine.max_minutes:g} minutes (machine.max_minutes) {at}"
