"""Smooth random functions, each drawn once from the portrait's own random numbers."""

import numpy as np

from shards.synth.solids import Array

TABLE = 4096  # a power of two, so that a bit mask wraps the index


class Noise:
    """Value noise in −1…1 along a line or in a plane; one lattice step is one unit of the argument."""

    def __init__(self, rng: np.random.Generator):
        self.values = rng.uniform(-1.0, 1.0, TABLE).astype(np.float32)

    def line(self, t: Array) -> Array:
        """Smooth noise of one argument, of any shape."""
        whole = np.floor(t)
        part = t - whole
        index = whole.astype(np.int32)
        here, there = self.values[index & (TABLE - 1)], self.values[(index + 1) & (TABLE - 1)]
        return here + (there - here) * (part * part * (3.0 - 2.0 * part))

    def plane(self, x: Array, y: Array) -> Array:
        """Smooth noise of two arguments of one shape."""
        row = np.floor(y)
        part = y - row
        part = part * part * (3.0 - 2.0 * part)
        # Rows are far apart in the table, so that neighbouring ones have nothing in common.
        lower, upper = self.line(x + 57.0 * row), self.line(x + 57.0 * (row + 1.0))
        return lower + (upper - lower) * part
