"""From a batch of real images to a loss: draw, look, compare."""

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from dinogen.config import RunConfig
from dinogen.data.bank import FeatureBanks
from dinogen.data.store import Batch
from dinogen.images import to_float
from dinogen.objectives import ObjectiveResult, make_objective
from dinogen.pyramid import Pyramid, complete
from dinogen.schedule import Stage, batch_sizes_at
from dinogen.teachers import Teacher
from dinogen.train.health import StepChecks
from dinogen.train.late import LatePhases


class Comparer:
    """Compares freshly drawn images with real ones.

    Args:
        config: of the run.
        accelerator: says the device, the precision and the ranks.
        G: the generator as accelerate prepared it.
        teacher: the frozen teacher; every rank must make the same calls.
        banks: what earlier steps saw.
    """

    def __init__(
        self, config: RunConfig, accelerator: Accelerator, G: nn.Module, teacher: Teacher, banks: FeatureBanks
    ):
        self.config, self.accelerator, self.teacher, self.banks = config, accelerator, teacher, banks
        self.G = G
        self.objectives = {
            name: make_objective(config.objective, name) for name in ("paired", "banded", config.objective.name)
        }
        # All ranks draw the latents of the whole batch and keep their share: the run does not depend on their number.
        self.latent_rng = torch.Generator().manual_seed(config.seed)
        self.late = LatePhases(config, teacher.spec, self.see, accelerator.device)

    def compare(self, batch: Batch, stage: Stage, objective: str, checks: StepChecks, cur_nimg: int) -> ObjectiveResult:
        """The objective's verdict on freshly drawn images.

        Args:
            batch: this rank's share of the real images.
            stage: decides the resolution and the number of images drawn.
            objective: its name.
            checks: are shown everything that could be other than finite.
            cur_nimg: the clock, which says what has joined the objective.
        """
        config = self.config.objective
        batch_size, _ = batch_sizes_at(cur_nimg, stage.resolution, self.config.train)
        real = self.real_pyramid(batch)
        checks.look("the real images' features", real.values())
        images = self.draw(self.G, stage, batch_size)
        checks.look("the generated images", [images])
        images.register_hook(lambda gradient: checks.look("the gradient at the images", [gradient]))
        generated = self.see(images)
        checks.look("the generated images' features", generated.values())
        other = None
        if objective != "paired" and config.self_term == "independent":
            # Until the bank has something, the samples repel each other.
            other = self.banks.generated.content() if config.generated_bank else self.see_others(stage, batch_size)
        # A pair is with an image of this batch: regression to random pairs gains nothing from a bank's.
        compared = real if objective == "paired" else self.banks.real.beside(real)
        result = self.objectives[objective](generated, compared, other)
        for quantity, value in result.checks.items():
            checks.look(quantity, [value])
        result = self.late.join(result, generated, real, images, batch, cur_nimg)
        checks.look("the loss", [result.loss])
        self.banks.real.offer(real)
        self.banks.generated.offer(generated)
        return result

    def draw(self, network: nn.Module, stage: Stage, batch_size: int) -> Tensor:
        """This rank's share of freshly drawn images, in float32 whatever the mixed precision."""
        # A tensor, because a compiled network would be compiled again for each new number.
        alpha = torch.full((), stage.alpha, device=self.accelerator.device)
        return network(self.latents(batch_size), stage.resolution, alpha).float()

    def latents(self, batch_size: int) -> Tensor:
        """This rank's share of the whole batch's latents, `[batch_size / ranks, z_dim]`."""
        z = torch.randn(batch_size, self.config.generator.z_dim, generator=self.latent_rng)
        return z.chunk(self.accelerator.num_processes)[self.accelerator.process_index].to(self.accelerator.device)

    def see(self, images: Tensor) -> Pyramid:
        """What the teacher sees, in the run's precision."""
        with self.accelerator.autocast():
            return self.teacher(images)

    @torch.no_grad()
    def see_others(self, stage: Stage, batch_size: int) -> Pyramid:
        """The features of a second batch."""
        # Not DDP's wrapper: it expects a backward pass after each forward.
        return self.see(self.draw(self.accelerator.unwrap_model(self.G), stage, batch_size))

    @torch.no_grad()
    def real_pyramid(self, batch: Batch) -> Pyramid:
        """The reals' pyramid: as stored, or computed from crops that are as coarse as the stage's images.

        In fp16, as it lies in the shards: most of what ranks exchange are real features, and banks hold them.
        """
        device = self.accelerator.device
        if batch.pyramid is not None:
            stored = {name: level.to(device, non_blocking=True) for name, level in batch.pyramid.items()}
            pyramid = complete(stored, self.teacher.spec)
        else:
            pyramid = self.see(to_float(batch.images.to(device, non_blocking=True)))
        return {name: level.half() for name, level in pyramid.items()}
