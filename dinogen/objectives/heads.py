"""An optional last phase: heads on the teacher's tokens learn to tell real from generated, the generator to fool them.

The drift makes the distribution of what the teacher sees right; heads are sharper judges of single images. They sit on
the same frozen teacher, are small, and share the run: its clock, its checkpoints, its ranks.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from dinogen.config import HeadsConfig, RunConfig
from dinogen.distributed import means_over_ranks, rank, sum_over_ranks, world_size
from dinogen.errors import DinogenError
from dinogen.kept import KeptAdam, nbytes_of, with_prefix, without_prefix
from dinogen.objectives.augment import DRAWS, augment
from dinogen.objectives.base import ObjectiveResult, Seen, Surroundings, Term
from dinogen.objectives.head_network import Heads, generator_loss, gradient_penalty, heads_loss
from dinogen.tensor_files import Shapes, shapes_of

HEADS, OPTIMIZER, RANDOM = "heads/", "optimizer/", "random"
CHANNELS = 64
LEARNING_RATE = 1e-3
BETAS = (0.0, 0.99)  # with these, a gradient of zero moves nothing
R1_GAMMA = 0.01


class HeadsTerm(Term):
    """The heads, their optimiser and their random numbers. The same on all ranks.

    Args:
        config: when and how much.
        surroundings: the teacher that they sit on.
        channels: inside a head, a multiple of 8.
        learning_rate: of the heads' Adam.
        r1_gamma: weight of the penalty on the heads' gradient in real tokens.
    """

    name = file = "heads"
    keeps = may_lack_groups = True

    def __init__(
        self,
        config: HeadsConfig,
        surroundings: Surroundings,
        channels: int = CHANNELS,
        learning_rate: float = LEARNING_RATE,
        r1_gamma: float = R1_GAMMA,
    ):
        self.config = config
        self.begins = config.from_kimg * 1000
        self.look, self.r1_gamma = surroundings.look, r1_gamma
        with torch.random.fork_rng(devices=[]):  # the run's own random numbers stay what they are without heads
            torch.manual_seed(surroundings.seed)
            self.heads = Heads(surroundings.specs, channels).to(surroundings.device)
        self.optimizer = torch.optim.Adam(self.heads.parameters(), lr=learning_rate, betas=BETAS)
        self.adam = KeptAdam("", self.optimizer, self.heads)
        self.rng = torch.Generator().manual_seed(surroundings.seed)

    def is_on(self, cur_nimg: int, resolution: int) -> bool:
        return cur_nimg >= self.begins and self.config.are_on(cur_nimg, resolution)

    def weight_at(self, cur_nimg: int, resolution: int) -> float:
        """A linear rise from zero, in which the heads get ahead."""
        since = (cur_nimg - self.begins) / 1000
        rise = min(1.0, since / self.config.rampup_kimg) if self.config.rampup_kimg else 1.0
        return self.config.weight * max(0.0, rise)

    def real_images_each(self, resolution: int) -> int:
        return int(resolution >= self.config.from_resolution)

    def __call__(self, seen: Seen) -> ObjectiveResult:
        return self.judge(seen.images, seen.as_many_real_images)

    def judge(self, images: Tensor, real_images: Tensor) -> ObjectiveResult:
        """Let the heads learn from a batch, then let them judge it.

        Args:
            images: this rank's generated ones, `[N, 3, R, R]` in [-1, 1], with gradient.
            real_images: as many real ones.

        Returns:
            The generator's loss, for the generator only.
        """
        generated = self.heads.tokens_of(self.look(self.augmented(images)))
        with torch.no_grad():
            real = self.heads.tokens_of(self.look(self.augmented(real_images)))
        with torch.autocast(images.device.type, enabled=False):
            statistics = self.learn(real, {name: tokens.detach() for name, tokens in generated.items()})
            self.heads.requires_grad_(False)
            loss = generator_loss(self.heads, generated)
            self.heads.requires_grad_(True)
        return ObjectiveResult(loss, means_over_ranks(statistics | {"heads/generator": loss}))

    def learn(self, real: dict[str, Tensor], generated: dict[str, Tensor]) -> dict[str, Tensor]:
        """One step of the heads, on the mean gradient of all ranks; left out where that is not finite."""
        loss, penalty = heads_loss(self.heads, real, generated), gradient_penalty(self.heads, real)
        self.optimizer.zero_grad()
        (loss + self.r1_gamma / 2 * penalty).backward()
        parameters = list(self.heads.parameters())
        # Heads of another stage's maps have no gradient.
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        gradient = torch.cat([each.flatten() for each in gradients])
        gradient = sum_over_ranks(gradient) / world_size()
        gradient = torch.where(gradient.isfinite().all(), gradient, 0.0)
        for parameter, part in zip(parameters, gradient.split([parameter.numel() for parameter in parameters])):
            parameter.grad = part.view_as(parameter)
        self.optimizer.step()
        return {"heads/heads": loss, "heads/r1": penalty}

    def augmented(self, images: Tensor) -> Tensor:
        """This rank's images, changed as the random numbers of the whole batch say."""
        draws = torch.rand(len(images) * world_size(), DRAWS, generator=self.rng)
        return augment(images, draws.chunk(world_size())[rank()].to(images.device))

    def tensors(self) -> dict[str, Tensor]:
        weights, moments = with_prefix(HEADS, self.heads.state_dict()), with_prefix(OPTIMIZER, self.adam.tensors())
        return weights | moments | {RANDOM: self.rng.get_state()}

    def expected(self) -> Shapes:
        """Of heads with any number of channels: `restore` refuses another one."""
        of_any_size = {name: ((None,) * len(shape), dtype) for name, (shape, dtype) in self.exactly().items()}
        return {**of_any_size, **shapes_of({RANDOM: self.rng.get_state()})}

    def exactly(self) -> Shapes:
        """What `tensors` holds once the heads have moved."""
        weights, moments = shapes_of(self.heads.state_dict()), self.adam.expected()
        random = shapes_of({RANDOM: self.rng.get_state()})
        return {**with_prefix(HEADS, weights), **with_prefix(OPTIMIZER, moments), **random}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        try:
            self.heads.load_state_dict(without_prefix(HEADS, tensors))
            self.adam.restore(without_prefix(OPTIMIZER, tensors))
            self.rng.set_state(tensors[RANDOM])
        except (RuntimeError, KeyError) as error:
            raise DinogenError(
                "the checkpoint's heads have other sizes than this dinogen and this teacher give them; train without "
                "heads: leave the heads block out"
            ) from error

    def nbytes(self) -> int:
        return nbytes_of(self.exactly())


def heads_terms(config: RunConfig, surroundings: Surroundings) -> Iterator[Term]:
    """The term that `heads:` asks for."""
    if config.heads is not None:
        yield HeadsTerm(config.heads, surroundings)
