"""What joins the objective late in a run, or in a finished one that goes on: a Fréchet loss, discriminator heads."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from dinogen.config import RunConfig
from dinogen.data.store import Batch
from dinogen.errors import DinogenError
from dinogen.images import to_float
from dinogen.objectives import ObjectiveResult
from dinogen.objectives.frechet import FrechetLoss
from dinogen.pyramid import Pyramid, PyramidSpec
from dinogen.tensor_files import Expected
from dinogen.train.adversary import Adversary
from dinogen.train.checkpoint_read import ADVERSARY, FRECHET


class LatePhases:
    """Those of them that the config asks for.

    Args:
        config: of the run.
        spec, look, device: see `Adversary`.
    """

    def __init__(self, config: RunConfig, spec: PyramidSpec, look: Callable[[Tensor], Pyramid], device: torch.device):
        self.config = config
        self.device = device
        self.frechet = FrechetLoss(config.objective.frechet_memory_kimg) if config.objective.frechet_weight else None
        self.adversary = None
        if config.adversary.weight:
            self.adversary = Adversary(config.adversary, spec, look, device, config.seed)

    def want_images(self, resolution: int) -> bool:
        """Whether real images are needed at a stage, beside their pyramids."""
        return self.adversary is not None and resolution >= self.config.adversary.from_resolution

    def join(
        self,
        result: ObjectiveResult,
        generated: Pyramid,
        real: Pyramid,
        images: Tensor,
        batch: Batch,
        cur_nimg: int,
    ) -> ObjectiveResult:
        """The objective's verdict with those that are on by now.

        Args:
            result: the objective's.
            generated, real: the pyramids that it compared.
            images: the generated images, with gradient.
            batch: of the real ones.
            cur_nimg: the clock.
        """
        objective, loss, statistics = self.config.objective, result.loss, result.statistics
        if self.adversary is not None and self.adversary.is_on(cur_nimg, images.shape[-1]):
            real_images = to_float(batch.images[: len(images)].to(self.device, non_blocking=True))
            fooling, of_heads = self.adversary.step(images, real_images)
            weight = self.adversary.weight_at(cur_nimg)
            loss = self.config.adversary.drift_weight * loss + weight * fooling
            statistics = statistics | of_heads
        if self.frechet is not None and cur_nimg >= objective.frechet_from_kimg * 1000:
            moments = self.frechet(generated, real)
            loss = loss + objective.frechet_weight * moments.loss
            statistics = statistics | moments.statistics
        return ObjectiveResult(loss, statistics, result.checks)

    def settle(self, keep: bool) -> None:
        """At the end of a step: remember what it saw, or forget it where the step was skipped."""
        if self.frechet is not None:
            self.frechet.settle(keep)

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """What a checkpoint has to hold of them, one dict a file."""
        files = {}
        if self.frechet is not None and self.frechet.remembered:
            files[FRECHET] = self.frechet.tensors()
        if self.adversary is not None:
            files[ADVERSARY] = self.adversary.tensors()
        return files

    def expected(self, levels: Mapping[str, tuple[int, ...]]) -> dict[str, Expected]:
        """What a checkpoint's files of them hold, by the names and shapes (without N) of a pyramid's tensors."""
        files: dict[str, Expected] = {}
        if self.frechet is not None:
            files[FRECHET] = self.frechet.expected(levels)
        if self.adversary is not None:
            files[ADVERSARY] = self.adversary.expected()
        return files

    def restore(self, files: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Go on from a checkpoint; what it does not hold begins anew.

        Raises:
            DinogenError: heads of other sizes.
        """
        if FRECHET in files:
            self.frechet.restore(files[FRECHET], self.device)
        if ADVERSARY in files:
            try:
                self.adversary.restore(files[ADVERSARY])
            except (RuntimeError, KeyError) as error:
                raise DinogenError(
                    "the checkpoint's heads have other sizes than adversary.channels or the teacher says; give the "
                    "old values"
                ) from error
