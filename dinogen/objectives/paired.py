"""The baseline: regression to randomly paired real images. Its best answer is one average face."""

import torch
import torch.nn.functional as F

from dinogen.data.store import spread_evenly
from dinogen.objectives.base import ObjectiveResult
from dinogen.pyramid import Pyramid


class PairedRegression:
    """Mean squared error between each generated pyramid and that of a random real image, averaged over the maps.

    The loader's order is random, so pairing by position pairs at random. Of all ranks together number g of N generated
    is paired with number ⌊g · M / N⌋ of M real ones: a rank finds these in its own share, whatever the number of ranks.
    """

    def __call__(self, generated: Pyramid, real: Pyramid) -> ObjectiveResult:
        n, m = len(generated["cls"]), len(real["cls"])
        partners = spread_evenly(n, m).to(real["cls"].device)
        losses = [F.mse_loss(level, real[name][partners].float()) for name, level in generated.items()]
        return ObjectiveResult(loss=torch.stack(losses).mean())
