"""Caption vectors whitened over a data set: what most captions say counts no more than what few of them say.

Of that, only what shows in images can steer them. How a caption is put, and what it adds of its own, would count as
much as what it says of the face. So directions are turned to canonical ones (Hotelling 1936), those that correlate with
what images show, and each counts by its correlation. The vector of a caption then lies where images of it are expected.
"""

import hashlib
import math
from collections.abc import Mapping
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from dinogen.errors import DinogenError
from dinogen.tensor_files import Shapes

MOST = 64  # numbers that are left of a vector
LEAST_SHRINKAGE = 0.1


class Whitening:
    """A linear map of an encoder's vectors under which a data set's captions vary alike in all directions.

    Args:
        mean: float32 `[D]`.
        directions: float32 `[D, K]`, K at most 64.
    """

    def __init__(self, mean: Tensor, directions: Tensor):
        self.mean, self.directions = mean, directions

    @classmethod
    def fit(cls, pooled: Tensor, noise: float = 0.0, shown: Tensor | None = None) -> Self:
        """Fit to a data set's captions.

        The covariance is pulled towards a multiple of the identity, by what Ledoit and Wolf (2004) find best for so
        many captions, and by a tenth at least: directions in which captions hardly differ stay small.

        Vectors that are noisy when they are whitened become the best linear estimate of what they were without noise
        (Wiener), in units of how that varies. So a direction in which there is noise alone counts nothing.

        Args:
            pooled: `[N, D]`, of captions as often as they occur, without noise. Null captions are left out.
            noise: its variance in each direction.
            shown: `[N, S]`, what the images of these captions show, in uncorrelated numbers of variance one. Directions
                that do not correlate with it more than chance would are left out, unless none does; None keeps all.

        Raises:
            DinogenError: fewer than two different captions.
        """
        known = pooled.any(dim=1)
        vectors = pooled[known].double().cpu()
        different = len(vectors.unique(dim=0))
        if different < 2:
            raise DinogenError(f"the data set has {different} different captions; text needs at least two")
        mean = vectors.mean(dim=0)
        covariance = shrunk_covariance(vectors - mean)
        values, axes = torch.linalg.eigh(covariance)
        kept = min(MOST if shown is None else len(mean), different - 1, len(mean))
        values, axes = values[-kept:].flip(0), axes[:, -kept:].flip(1)
        directions = axes * (values.sqrt() / (values + noise))
        if shown is not None:
            directions = canonical(directions, vectors - mean, shown[known].double().cpu())
        return cls(mean.float(), directions.float())

    def __call__(self, pooled: Tensor) -> Tensor:
        """Vectors `[N, D]` as float32 `[N, K]` of length one; the null caption stays zero."""
        # In double precision, so that machines agree; it is a small product.
        mean, directions = (part.to(pooled.device).double() for part in (self.mean, self.directions))
        white = F.normalize((pooled.double() - mean) @ directions, dim=1).float()
        return white * pooled.any(dim=1, keepdim=True)

    @property
    def width(self) -> int:
        """K, the numbers that are left."""
        return self.directions.shape[1]

    @property
    def fingerprint(self) -> str:
        """16 hex digits of its numbers."""
        parts = [part.cpu().contiguous().numpy().tobytes() for part in (self.mean, self.directions)]
        return hashlib.sha256(b"".join(parts)).hexdigest()[:16]

    def tensors(self) -> dict[str, Tensor]:
        """All that it is, for files."""
        return {"mean": self.mean, "directions": self.directions}

    @staticmethod
    def expected(width: int | None) -> Shapes:
        """What a file of `tensors()` looks like, for vectors of this width D; None is any."""
        return {"mean": ((width,), torch.float32), "directions": ((width, None), torch.float32)}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor]) -> Self:
        """The whitening whose `tensors()` these are."""
        return cls(tensors["mean"], tensors["directions"])


def canonical(directions: Tensor, centred: Tensor, shown: Tensor) -> Tensor:
    """Whitened directions `[D, K]` turned to those that correlate with what images show, and scaled by how much.

    Chance correlates too, the more the fewer images there are. What it adds is taken off by the best shrinkage of the
    singular values of a matrix with noise (Gavish and Donoho 2017, for the Frobenius norm).

    Args:
        directions: as fitted.
        centred: `[N, D]`, vectors with mean zero.
        shown: `[N, S]`.

    Returns:
        `[D, k]`, the directions that are surely not chance, at most `MOST`; the first ones as they were where none is.
    """
    left, correlations, _ = torch.linalg.svd(directions.T @ centred.T @ shown / len(centred), full_matrices=False)
    sides = sorted((directions.shape[1], shown.shape[1]))
    scale, ratio = math.sqrt(sides[1] / len(centred)), sides[0] / sides[1]
    squares = (correlations / scale).square()
    shrunk = scale * ((squares - ratio - 1).square() - 4 * ratio).clamp(min=0).sqrt() / squares.sqrt().clamp(min=1e-8)
    found = squares > (1 + math.sqrt(ratio)) ** 2
    return (directions @ left[:, found] * shrunk[found] if found.any() else directions)[:, :MOST]


def shrunk_covariance(centred: Tensor) -> Tensor:
    """The covariance `[D, D]` of rows `[N, D]` with mean zero, shrunk."""
    count, width = centred.shape
    covariance = centred.T @ centred / count
    target = covariance.diagonal().mean() * torch.eye(width, dtype=centred.dtype)
    spread = (covariance - target).square().sum()
    error = (centred.square().sum(dim=1).square().mean() - covariance.square().sum()) / count
    shrinkage = float((error / spread).clamp(LEAST_SHRINKAGE, 1.0))
    return (1 - shrinkage) * covariance + shrinkage * target
