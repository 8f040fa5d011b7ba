"""Linear regression with a penalty (ridge), in closed form, that knows how well it does on rows left out of the fit."""

from dataclasses import dataclass

import torch
from torch import Tensor

PENALTIES = (1e-1, 1e-2, 1e-3, 1e-4)  # times the rows' total weight, for inputs whose squares add up to about 1


@dataclass(frozen=True)
class Ridge:
    """A fitted map.

    Args:
        centre: `[d]`, of the inputs.
        offset: `[k]`, of the targets.
        slope: `[d, k]`.
        held_out: `[n, k]`, what each row of the fit is mapped to by the map that is fitted to all the other rows.
        penalty: the one that was chosen.
    """

    centre: Tensor
    offset: Tensor
    slope: Tensor
    held_out: Tensor
    penalty: float

    def __call__(self, inputs: Tensor) -> Tensor:
        """Inputs `[m, d]` to `[m, k]`."""
        return (inputs - self.centre) @ self.slope + self.offset

    @classmethod
    def fit(cls, inputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> "Ridge":
        """Fit by least squares. Of `PENALTIES` the one is taken that errs least on rows left out one at a time.

        No row need be left out for that: it follows from the fit to all of them (Hastie, Tibshirani and Friedman, The
        Elements of Statistical Learning, section 7.10).

        Args:
            inputs: float64 `[n, d]`.
            targets: float64 `[n, k]`.
            weights: `[n]`, how much each row counts; None counts all alike.
        """
        weights = torch.ones(len(inputs), dtype=inputs.dtype) if weights is None else weights
        total, root = weights.sum(), weights.sqrt()[:, None]
        centre, offset = weights @ inputs / total, weights @ targets / total
        rows, wanted = root * (inputs - centre), root * (targets - offset)
        values, axes = torch.linalg.eigh(rows @ rows.T)
        along = axes.T @ wanted
        best: tuple[float, float, Tensor] | None = None
        for penalty in PENALTIES:
            kept = values / (values + penalty * total)
            own = (axes.square() @ kept + weights / total)[:, None]  # how much of each row's fit is due to itself
            residual = (wanted - axes @ (kept[:, None] * along)) / (1 - own)
            error = residual.square().sum().item()
            if best is None or error < best[0]:
                best = error, penalty, targets - residual / root
        assert best is not None
        _, penalty, held_out = best
        slope = rows.T @ (axes @ (along / (values + penalty * total)[:, None]))
        return cls(centre, offset, slope, held_out, penalty)
