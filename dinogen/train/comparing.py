"""From a batch of real images to a loss: draw, look, compare."""

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from dinogen.config import RunConfig
from dinogen.data.store import Batch
from dinogen.images import to_float
from dinogen.objectives import ObjectiveResult, Seen, Surroundings, make_loss
from dinogen.objectives.paired import spread_evenly
from dinogen.pyramid import Pyramid, complete
from dinogen.schedule import Stage, batch_sizes_at
from dinogen.teachers import Teacher
from dinogen.train.health import StepChecks


class Comparer:
    """Compares freshly drawn images with real ones.

    Args:
        config: of the run.
        accelerator: says the device, the precision and the ranks.
        G: the generator as accelerate prepared it.
        teacher: the frozen teacher; every rank must make the same calls.
        latent_rng: draws the latents; the same on all ranks.
    """

    def __init__(
        self, config: RunConfig, accelerator: Accelerator, G: nn.Module, teacher: Teacher, latent_rng: torch.Generator
    ):
        self.config, self.accelerator, self.G, self.teacher = config, accelerator, G, teacher
        self.latent_rng = latent_rng
        self.loss = make_loss(config, Surroundings(teacher.specs, self.see, accelerator.device, config.seed))

    def compare(self, batch: Batch, stage: Stage, checks: StepChecks, cur_nimg: int) -> ObjectiveResult:
        """The loss of freshly drawn images.

        Args:
            batch: this rank's share of the real images.
            stage: decides the resolution and the number of images drawn.
            checks: are shown everything that could be other than finite.
            cur_nimg: the clock, which says which terms are on.
        """
        batch_size, _ = batch_sizes_at(cur_nimg, stage.resolution, self.config)
        real = self.real_pyramid(batch, stage.resolution)
        checks.look("the real images' features", real.values())
        images = self.draw(stage, batch_size)
        checks.look("the generated images", [images])
        images.register_hook(lambda gradient: checks.look("the gradient at the images", [gradient]))
        generated = self.see(images)
        checks.look("the generated images' features", generated.values())
        real_images = None
        if self.loss.wants_images(stage.resolution):
            assert batch.images is not None, "the loader decodes them for such a loss"
            chosen = spread_evenly(len(images), len(batch.images))
            real_images = to_float(batch.images[chosen].to(self.accelerator.device, non_blocking=True))
        result = self.loss(Seen(generated, real, images, real_images, cur_nimg))
        for quantity, value in result.checks.items():
            checks.look(quantity, [value])
        checks.look("the loss", [result.loss])
        return result

    def draw(self, stage: Stage, batch_size: int) -> Tensor:
        """This rank's share of freshly drawn images, in float32 whatever the mixed precision."""
        # A tensor, because a compiled network would be compiled again for each new number.
        alpha = torch.full((), stage.alpha, device=self.accelerator.device)
        return self.G(self.latents(batch_size), stage.resolution, alpha).float()

    def latents(self, batch_size: int) -> Tensor:
        """This rank's share of the whole batch's latents, `[batch_size / ranks, z_dim]`."""
        # All ranks draw those of the whole batch and keep their share: the run does not depend on their number.
        z = torch.randn(batch_size, self.config.generator.z_dim, generator=self.latent_rng)
        return z.chunk(self.accelerator.num_processes)[self.accelerator.process_index].to(self.accelerator.device)

    def see(self, images: Tensor) -> Pyramid:
        """What the teacher sees, in the run's precision."""
        with self.accelerator.autocast():
            return self.teacher(images)

    @torch.no_grad()
    def real_pyramid(self, batch: Batch, resolution: int) -> Pyramid:
        """What the teacher saw of the reals at a stage, from the shards.

        In fp16, as it lies there: most of what ranks exchange are real features.
        """
        assert batch.pyramid is not None, "the loader reads them for every step"
        device = self.accelerator.device
        stored = {name: level.to(device, non_blocking=True) for name, level in batch.pyramid.items()}
        pyramid = complete(stored, self.teacher.specs[resolution])
        return {name: level.half() for name, level in pyramid.items()}
