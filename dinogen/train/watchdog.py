"""Notices that another rank has died, was stopped or hangs, and ends this one rather than wait for ever.

Every rank publishes a heartbeat in the store through which the ranks met. The heart is a thread of its own: a long
compilation or a long save does not stop it, SIGKILL and SIGSTOP do. With the heartbeat goes the number of milestones
that the rank has passed, so that one whose main thread hangs is told from those that wait for it.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from itertools import count
from types import TracebackType
from typing import Any

import torch.distributed as dist

from dinogen import distributed
from dinogen.errors import DinogenError

TIMEOUT_SECONDS = 60.0  # without a heartbeat for this long a rank counts as dead
HANG_SECONDS = 600.0  # a rank may let the others wait, for compiling or writing to a slow disk
GRACE_SECONDS = 5.0  # for the main thread to leave by itself
_launches = count()


class Watchdog:
    """While entered, watches the other ranks. With one rank it does nothing.

    An exchange that fails while it is entered is explained: the rank that made it fail is named.

    Args:
        rank: of this process.
        world_size: number of ranks.
        where: says where this rank is, for the others' messages.
    """

    def __init__(self, rank: int, world_size: int, where: Callable[[], str]):
        self.rank, self.timeout, self.where = rank, TIMEOUT_SECONDS, where
        self.others = [other for other in range(world_size) if other != rank]
        self.interval = min(5.0, self.timeout / 10)
        self.finding: str | None = None
        self._found, self._leaving = threading.Event(), threading.Event()
        self._farewell = ""
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._beat, self._judge)]

    def __enter__(self) -> "Watchdog":
        if self.others:
            # Counted, because the store outlives this object, and with torchrun even the process.
            launch = f"{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}/{next(_launches)}"
            self._keys = {rank: f"heartbeat/{launch}/{rank}" for rank in (self.rank, *self.others)}
            now = time.monotonic()
            self._answered_at, self._progress = now, (-1, now)
            self._heard: dict[int, tuple[str | None, float]] = {rank: (None, now) for rank in self.others}
            for thread in self._threads:
                thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not self.others:
            return
        if is_of_an_exchange(error):
            self._found.wait(self.timeout + 2 * self.interval)
        if error is not None:
            self._farewell = str(error) or type(error).__name__
        self._leaving.set()
        self._threads[0].join(2 * self.interval)  # no longer: the store may have died
        if is_of_an_exchange(error) and self.finding:
            raise DinogenError(self.finding) from error

    def _beat(self) -> None:
        """Publish this rank's state, read the others'."""
        store = dist.TCPStore(  # pyright: ignore[reportPrivateImportUsage]
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            is_master=False,
            timeout=timedelta(seconds=self.timeout),
        )
        try:
            for beat in count():
                self._publish(store, beat)
                present = [other for other in self.others if store.check([self._keys[other]])]
                values = store.multi_get([self._keys[other] for other in present])
                now = time.monotonic()
                for other, value in zip(present, values):
                    if value.decode() != self._heard[other][0]:
                        self._heard[other] = (value.decode(), now)
                self._answered_at = now
                if self._leaving.wait(self.interval):
                    return self._publish(store, beat + 1)
        except RuntimeError:
            return  # the store is gone; the other thread notices

    def _publish(self, store: Any, beat: int) -> None:
        state = [beat, distributed.milestones, self.where(), self._farewell]
        store.set(self._keys[self.rank], json.dumps(state))

    def _judge(self) -> None:
        """End this process when another rank is found missing and the main thread waits for it."""
        before = time.monotonic()
        while not self._leaving.wait(self.interval):
            now = time.monotonic()
            if now - before > self.timeout / 2:  # this process was stopped itself: it knows nothing of the others
                self._answered_at, self._progress = now, (self._progress[0], now)
                self._heard = {rank: (state, now) for rank, (state, _) in self._heard.items()}
            before = now
            self.finding = self._find(now)
            if self.finding:
                self._found.set()
                if not self._leaving.wait(GRACE_SECONDS):
                    print(f"dinogen train: error: {self.finding}", file=sys.stderr, flush=True)
                    os._exit(1)  # the main thread may wait in an exchange that nothing ends
                return

    def _find(self, now: float) -> str | None:
        """What is wrong with the other ranks, if something is."""
        remedy = "run the same command again to resume from the last checkpoint"
        states = {rank: json.loads(state) for rank, (state, _) in self._heard.items() if state}
        for rank, (_, _, where, farewell) in states.items():
            if farewell:
                return f"rank {rank} ended at {where}: {farewell}"
        if now - self._answered_at > self.timeout:
            keeper = "its launcher" if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True" else "rank 0"
            return (
                f"{keeper} at {os.environ['MASTER_ADDR']}, through which the ranks meet, has not answered for "
                f"{self.timeout:.0f} s; {remedy}"
            )
        silent = [rank for rank, (state, since) in self._heard.items() if state and now - since > self.timeout]
        if silent:
            return (
                f"{named(silent)} gave no sign of life for {self.timeout:.0f} s after {states[silent[0]][2]}: killed, "
                f"stopped, or cut off; {remedy}"
            )
        passed = {rank: state[1] for rank, state in states.items()} | {self.rank: distributed.milestones}
        slowest = min(passed.values()) if len(passed) > len(self.others) else 0  # 0: some have not begun
        if slowest != self._progress[0]:
            self._progress = (slowest, now)
        late = sorted({*self.others, self.rank} - {rank for rank, number in passed.items() if number > slowest})
        if now - self._progress[1] > HANG_SECONDS and len(late) <= len(self.others):
            where = states[late[0]][2] if late[0] in states else self.where() if late[0] == self.rank else "the start"
            return f"{named(late)} hangs at {where}, the others have waited for {HANG_SECONDS:.0f} s; {remedy}"
        return None


def named(ranks: list[int]) -> str:
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"


def is_of_an_exchange(error: BaseException | None) -> bool:
    """Whether this is what an exchange raises when another rank breaks it off."""
    text = str(error).lower()
    return isinstance(error, RuntimeError) and (isinstance(error, dist.DistError) or "gloo" in text or "nccl" in text)
