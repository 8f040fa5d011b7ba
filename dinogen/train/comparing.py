"""From a batch of real images to a loss: draw, look, compare."""

from dataclasses import replace

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from dinogen.codes import Coder
from dinogen.config import RunConfig
from dinogen.data.store import Batch
from dinogen.images import to_float
from dinogen.networks.words import Words
from dinogen.objectives import ObjectiveResult, Seen, Surroundings, make_loss
from dinogen.pyramid import Pyramid, complete
from dinogen.schedule import Stage, batch_sizes_at
from dinogen.teachers import Teacher
from dinogen.train.health import StepChecks
from dinogen.train.laps import Laps
from dinogen.train.wording import Wording

CODE_RESOLUTION = 64  # pixels: of the images whose pyramids codes are made of
CODE_NOISE = 0.1


class Comparer:
    """Compares freshly drawn images with real ones.

    Args:
        config: of the run.
        accelerator: says the device, the precision and the ranks.
        G: the generator as accelerate prepared it.
        teacher: the frozen teacher; every rank must make the same calls.
        latent_rng: draws the latents; the same on all ranks.
        wording: draws the captions; None in a run without text.

    Attributes:
        coder: makes the latents of the warm-up.
        code_stage: resolution of the stage whose pyramids it makes them of.
        laps: times the parts of a step, where somebody has started it.
    """

    def __init__(
        self,
        config: RunConfig,
        accelerator: Accelerator,
        G: nn.Module,
        teacher: Teacher,
        latent_rng: torch.Generator,
        wording: Wording | None = None,
    ):
        self.config, self.accelerator, self.G, self.teacher = config, accelerator, G, teacher
        self.latent_rng, self.wording = latent_rng, wording
        self.laps = Laps(accelerator.device)
        self.code_stage = teacher.specs.nearest_resolution(CODE_RESOLUTION)
        text_dim = wording.reader.text_dim if wording else 0
        self.coder = Coder(teacher.specs[self.code_stage], config.generator.z_dim, text_dim)
        self._expected: tuple[int, dict[str, Tensor]] | None = None
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
        z = self.latents(batch_size)
        words, captions = None, None
        if cur_nimg < self.config.warmup_nimg:
            words = None if self.wording is None else self.wording.of_reals(self.wording.told_by(batch))
            z = self.coded(batch, z, words)
        elif self.wording is not None:
            words, captions = self.wording.of_step(self.wording.told_by(batch), batch_size)
            captions = replace(captions, expected=self.expected_at(self.wording, stage.resolution))
        self.laps.lap("rest")
        images = self.draw(z, stage, words)
        self.laps.lap("generator")
        checks.look("the generated images", [images])
        images.register_hook(lambda gradient: self.arrived(gradient, checks))
        generated, real = {}, {}
        if self.loss.compares_pyramids(cur_nimg, stage.resolution):
            real = self.real_pyramid(batch, stage.resolution)
            checks.look("the real images' features", real.values())
            self.laps.lap("rest")
            generated = self.see(images)
            self.laps.lap("teacher")
            checks.look("the generated images' features", generated.values())
        real_images = None
        if self.loss.real_images_each(cur_nimg, stage.resolution):
            assert batch.images is not None, "the loader decodes them for such a loss"
            real_images = to_float(batch.images.to(self.accelerator.device, non_blocking=True))
        self.laps.lap("rest")
        result = self.loss(Seen(generated, real, images, real_images, cur_nimg, captions))
        self.laps.lap("loss")
        for quantity, value in result.checks.items():
            checks.look(quantity, [value])
        checks.look("the loss", [result.loss])
        return result

    def expected_at(self, wording: Wording, resolution: int) -> dict[str, Tensor]:
        """What captions lead one to expect of the maps of a stage, found when the stage begins."""
        if self._expected is None or self._expected[0] != resolution:
            self._expected = resolution, wording.expectations(self.teacher.specs[resolution], resolution)
        return self._expected[1]

    def arrived(self, gradient: Tensor, checks: StepChecks) -> None:
        """The gradient is at the images: the teacher's backward pass is over, and the generator's begins."""
        self.laps.lap("teacher")
        checks.look("the gradient at the images", [gradient])

    def stage_of_pyramids(self, cur_nimg: int, resolution: int) -> int:
        """The resolution of the pyramids to read: the stage's own, or the one that codes are made of."""
        return resolution if self.loss.compares_pyramids(cur_nimg, resolution) else self.code_stage

    def draw(self, z: Tensor, stage: Stage, words: Words | None = None) -> Tensor:
        """Images from latents and their words, in float32 whatever the mixed precision."""
        # A tensor, because a compiled network would be compiled again for each new number.
        alpha = torch.full((), stage.alpha, device=self.accelerator.device)
        return self.G(z, stage.resolution, alpha, words=words).float()

    def latents(self, batch_size: int) -> Tensor:
        """This rank's share of the whole batch's latents, `[batch_size / ranks, z_dim]`."""
        # All ranks draw those of the whole batch and keep their share: the run does not depend on their number.
        z = torch.randn(batch_size, self.config.generator.z_dim, generator=self.latent_rng)
        return z.chunk(self.accelerator.num_processes)[self.accelerator.process_index].to(self.accelerator.device)

    @torch.no_grad()
    def coded(self, batch: Batch, z: Tensor, words: Words | None) -> Tensor:
        """Latents of this rank's real images: their codes and a little noise. What codes leave over stays random.

        Codes leave out what all captions of an image say, not what the drawn one says alone. Else latents would decide
        about all that this one happens not to mention, and then also where another caption does mention it.
        """
        assert batch.pyramid is not None, "the loader reads those that codes are made of"
        stored = {name: level.to(z.device, non_blocking=True) for name, level in batch.pyramid.items()}
        wholes = None
        if self.wording is not None and words is not None:
            # An image that is drawn without words has nobody but its code to tell of it.
            wholes = self.wording.wholes(batch) * words.pooled.any(dim=1, keepdim=True)
        codes = self.coder(stored, wholes)
        left = z.shape[1] - codes.shape[1]
        return torch.cat([codes + CODE_NOISE * z[:, : codes.shape[1]], z[:, z.shape[1] - left :]], dim=1)

    def see(self, images: Tensor) -> Pyramid:
        """What the teacher sees: in bf16 where its weights are, else in the run's precision."""
        if self.teacher.dtype == torch.bfloat16:
            precision = torch.autocast(images.device.type, torch.bfloat16)
        else:
            precision = self.accelerator.autocast()
        with precision:
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
