"""The baseline: regression to randomly paired real images. Its best answer is one average face."""

import torch
import torch.nn.functional as F

from dinogen.objectives.base import ObjectiveResult
from dinogen.pyramid import Pyramid


class PairedRegression:
    """Mean squared error between each generated pyramid and that of a random real image, averaged over the maps.

    The loader's order is random, so pairing by position pairs at random.
    """

    def __call__(self, generated: Pyramid, real: Pyramid, other: Pyramid | None = None) -> ObjectiveResult:
        losses = [F.mse_loss(level, real[name][: len(level)]) for name, level in generated.items()]
        return ObjectiveResult(loss=torch.stack(losses).mean())
