"""In which order samples are read: a pure function of the seed and the epoch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LoaderState:
    """How far a loader has come: all that it needs to resume.

    Args:
        epoch: how often every sample has been handed out, on all ranks together.
        position: samples of the current epoch handed out so far. Counted in samples, not in batches, so that
            it stays right when the batch size changes.
    """

    epoch: int = 0
    position: int = 0

    def after(self, samples: int, total: int) -> "LoaderState":
        """The state `samples` later in a set of `total`."""
        epochs, position = divmod(self.position + samples, total)
        return LoaderState(self.epoch + epochs, position)


class SampleOrder:
    """An endless sequence of samples in which every one comes once an epoch.

    Shards are shuffled, and then the samples within windows of several shards. A small set is one window, so
    every order is possible; of a big set only a few shards are being read at any moment, however many it has.

    Args:
        counts: number of samples of each shard.
        seed: another seed, another order.
        window_shards: shards in a window.
    """

    def __init__(self, counts: Sequence[int], seed: int, window_shards: int):
        self.counts = np.asarray(counts, dtype=np.int64)
        self.seed = seed
        self.window_shards = window_shards

    def __len__(self) -> int:
        return int(self.counts.sum())

    def batches(self, start: LoaderState, size: int) -> Iterator[np.ndarray]:
        """Global batches from `start` on, without end. A batch may reach into the next epoch.

        Yields:
            int64 `[size, 2]`: shard number and row in the shard.
        """
        waiting = np.empty((0, 2), dtype=np.int64)
        for window in self._windows(start.after(0, len(self))):
            waiting = np.concatenate([waiting, window])
            while len(waiting) >= size:
                yield waiting[:size]
                waiting = waiting[size:]

    def _windows(self, start: LoaderState) -> Iterator[np.ndarray]:
        epoch, skip = start.epoch, start.position
        while True:
            shards = self._random(epoch).permutation(len(self.counts))
            for first in range(0, len(shards), self.window_shards):
                window = shards[first : first + self.window_shards]
                samples = int(self.counts[window].sum())
                if skip < samples:
                    yield self._shuffled(window, epoch, first)[skip:]
                skip = max(0, skip - samples)
            epoch += 1

    def _shuffled(self, window: np.ndarray, epoch: int, first: int) -> np.ndarray:
        counts = self.counts[window].tolist()
        rows = [np.stack([np.full(count, shard), np.arange(count)], 1) for shard, count in zip(window, counts)]
        return self._random(epoch, first + 1).permutation(np.concatenate(rows))

    def _random(self, *numbers: int) -> np.random.RandomState:
        # RandomState's streams are frozen for good; the newer generators may change, and orders with them.
        return np.random.RandomState([self.seed % 2**32, *numbers])
