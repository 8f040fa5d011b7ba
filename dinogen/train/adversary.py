"""An optional last phase: heads on the teacher's tokens learn to tell real from generated, the generator to fool them.

The drift makes the distribution of what the teacher sees right; heads are sharper judges of single images. They sit on
the same frozen teacher, are small, and share the run: its clock, its checkpoints, its ranks.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from dinogen.config import AdversaryConfig
from dinogen.distributed import rank, sum_over_ranks, world_size
from dinogen.networks.augment import DRAWS, augment
from dinogen.networks.head import Heads, generator_loss, gradient_penalty, heads_loss
from dinogen.pyramid import Pyramid, PyramidSpec
from dinogen.tensor_files import Shapes, shapes_of
from dinogen.train.checkpoint import expected_moments, optimizer_tensors, restore_optimizer

HEADS, OPTIMIZER, RANDOM = "heads/", "optimizer/", "random"


class Adversary:
    """The heads, their optimiser and their random numbers. The same on all ranks.

    Args:
        config: when and how much.
        spec: of the teacher's pyramids.
        look: the teacher, in the precision of training; a collective where the teacher is sharded.
        device: where the heads lie.
        seed: of the heads' first weights and of the augmentation.
    """

    def __init__(
        self,
        config: AdversaryConfig,
        spec: PyramidSpec,
        look: Callable[[Tensor], Pyramid],
        device: torch.device,
        seed: int,
    ):
        self.config = config
        self.look = look
        with torch.random.fork_rng(devices=[]):  # the run's own random numbers stay what they are without heads
            torch.manual_seed(seed)
            self.heads = Heads(spec, config.channels).to(device)
        self.optimizer = torch.optim.Adam(self.heads.parameters(), lr=config.learning_rate, betas=(0.0, 0.99))
        self.rng = torch.Generator().manual_seed(seed)

    def weight_at(self, cur_nimg: int) -> float:
        """Weight of the generator's share: 0 before `from_kimg`, then a linear rise in which the heads get ahead."""
        since = cur_nimg / 1000 - self.config.from_kimg
        rise = min(1.0, since / self.config.rampup_kimg) if self.config.rampup_kimg else 1.0
        return self.config.weight * max(0.0, rise)

    def is_on(self, cur_nimg: int, resolution: int) -> bool:
        """Whether heads take part at a clock reading and a stage."""
        return cur_nimg >= self.config.from_kimg * 1000 and resolution >= self.config.from_resolution

    def step(self, images: Tensor, real_images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Let the heads learn from a batch, then let them judge it.

        Args:
            images: this rank's generated ones, `[N, 3, R, R]` in [-1, 1], with gradient.
            real_images: as many real ones.

        Returns:
            The generator's loss, with gradient, for the generator only; and statistics, equal on all ranks.
        """
        generated = self.heads.tokens_of(self.look(self.augmented(images)))
        with torch.no_grad():
            real = self.heads.tokens_of(self.look(self.augmented(real_images)))
        with torch.autocast(images.device.type, enabled=False):
            statistics = self.learn(real, {name: tokens.detach() for name, tokens in generated.items()})
            self.heads.requires_grad_(False)
            loss = generator_loss(self.heads, generated)
            self.heads.requires_grad_(True)
        return loss, means_over_ranks(statistics | {"adversary/generator": loss})

    def learn(self, real: dict[str, Tensor], generated: dict[str, Tensor]) -> dict[str, Tensor]:
        """One step of the heads, on the mean gradient of all ranks; left out where that is not finite."""
        loss, penalty = heads_loss(self.heads, real, generated), gradient_penalty(self.heads, real)
        self.optimizer.zero_grad()
        (loss + self.config.r1_gamma / 2 * penalty).backward()
        parameters = list(self.heads.parameters())
        gradient = torch.cat([parameter.grad.flatten() for parameter in parameters])
        gradient = sum_over_ranks(gradient) / world_size()
        gradient = torch.where(gradient.isfinite().all(), gradient, 0.0)  # with these betas no gradient is no step
        for parameter, part in zip(parameters, gradient.split([parameter.numel() for parameter in parameters])):
            parameter.grad.copy_(part.view_as(parameter))
        self.optimizer.step()
        return {"adversary/heads": loss, "adversary/r1": penalty}

    def augmented(self, images: Tensor) -> Tensor:
        """This rank's images, changed as the random numbers of the whole batch say."""
        draws = torch.rand(len(images) * world_size(), DRAWS, generator=self.rng)
        return augment(images, draws.chunk(world_size())[rank()].to(images.device))

    def tensors(self) -> dict[str, Tensor]:
        """Everything that going on needs, for a checkpoint."""
        of_heads = {HEADS + name: value for name, value in self.heads.state_dict().items()}
        state = optimizer_tensors(self.optimizer, self.heads)
        of_optimizer = {OPTIMIZER + name: value for name, value in state.items()}
        return of_heads | of_optimizer | {RANDOM: self.rng.get_state()}

    def expected(self) -> Shapes:
        """What `tensors` holds, of heads with any number of channels: `restore` refuses another one."""
        of_heads = {HEADS + name: kind for name, kind in shapes_of(self.heads.state_dict()).items()}
        of_optimizer = {OPTIMIZER + name: kind for name, kind in expected_moments(self.heads).items()}
        whole = of_heads | of_optimizer
        of_any_size = {name: ((None,) * len(shape), dtype) for name, (shape, dtype) in whole.items()}
        return of_any_size | shapes_of({RANDOM: self.rng.get_state()})

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `tensors`."""

        def part(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

        self.heads.load_state_dict(part(HEADS))
        restore_optimizer(self.optimizer, self.heads, part(OPTIMIZER))
        self.rng.set_state(tensors[RANDOM])


def means_over_ranks(statistics: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every scalar averaged over the ranks, in one exchange."""
    values = sum_over_ranks(torch.stack(list(statistics.values()))) / world_size()
    return dict(zip(statistics, values))
