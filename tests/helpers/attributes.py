"""A toy of text: pictures of 12 binary attributes that captions name, and of one that none does."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dinogen.objectives import Captions
from dinogen.objectives.captions import expectations
from dinogen.objectives.sinkhorn import SinkhornDrift

PLACES, EACH = 4, 3  # attributes of a place
ATTRIBUTES = PLACES * EACH  # 4,096 captions, each with next to no real pictures of its own
SPREAD = 0.3  # of the reals around ±1, in every dimension
COUNT = 128
DROPPED = 0.1
Z_DIM = 32

Draw = Callable[[Tensor, torch.Generator], Tensor]


def draw_captions(count: int, rng: torch.Generator) -> Tensor:
    """`[count, 12]`, of length one."""
    return (torch.randint(0, 2, (count, ATTRIBUTES), generator=rng) * 2.0 - 1) / ATTRIBUTES**0.5


def independent(real_captions: Tensor, rng: torch.Generator) -> Tensor:
    """Fresh ones."""
    return draw_captions(len(real_captions), rng)


def same(real_captions: Tensor, rng: torch.Generator) -> Tensor:
    """The reals' own."""
    return real_captions


def draw_reals(captions: Tensor, rng: torch.Generator, spread: float = SPREAD) -> Tensor:
    """`[n, 4, 4]`, in each place three attributes at ±1 as captions say, and ±1 by chance; with a spread."""
    by_chance = torch.randint(0, 2, (len(captions), PLACES, 1), generator=rng) * 2.0 - 1
    centres = torch.cat([captions.sign().unflatten(1, (PLACES, EACH)), by_chance], dim=2)
    return centres + spread * torch.randn(centres.shape, generator=rng)


def dropped(captions: Tensor, rng: torch.Generator) -> Tensor:
    """With a tenth of them null."""
    return captions * (torch.rand(len(captions), 1, generator=rng) >= DROPPED)


def expected_of(spread: float = SPREAD) -> dict[str, Tensor]:
    """What captions lead one to expect of each place, by 1,000 real pictures."""
    rng = torch.Generator().manual_seed(5)
    captions = draw_captions(1000, rng)
    return expectations(as_pyramid(draw_reals(captions, rng, spread)), captions, torch.arange(1000))


def as_pyramid(pictures: Tensor) -> dict[str, Tensor]:
    """One map of four places, and one of the whole."""
    return {"l1_2x2": pictures.transpose(1, 2).unflatten(2, (2, 2)), "cls": pictures.flatten(1)}


class Sketcher(nn.Module):
    """A generator of such pictures from latents, captions and guidance."""

    def __init__(self, width: int = 128):
        super().__init__()
        sizes = [Z_DIM + ATTRIBUTES + 1, width, width, width]
        layers = [layer for a, b in zip(sizes, sizes[1:]) for layer in (nn.Linear(a, b), nn.LeakyReLU(0.2))]
        self.layers = nn.Sequential(*layers, nn.Linear(width, PLACES * (EACH + 1)))

    def forward(self, z: Tensor, captions: Tensor, alphas: Tensor) -> Tensor:
        inputs = torch.cat([z, captions * ATTRIBUTES**0.5, alphas[:, None] - 1], dim=1)
        return self.layers(inputs).unflatten(1, (PLACES, EACH + 1))


def trained(
    steps: int,
    of_generated: Draw = independent,
    of_real: Draw = same,
    guided: bool = False,
    spread: float = SPREAD,
    count: int = COUNT,
    local: bool = False,
    previous: bool = False,
) -> Sketcher:
    """A sketcher trained on fresh reals in each step.

    Args:
        steps: how many.
        of_generated: the captions of generated pictures, from those of the step's reals.
        of_real: what the objective takes for the captions of the reals.
        guided: in half of the steps by an α up to 2.5.
        spread: of the reals.
        count: of generated, and of real, pictures a step.
        local: each place compares captions by what they lead one to expect there.
        previous: pictures of the step before push the generated ones away.
    """
    before = None
    expected = expected_of(spread) if local else None
    rng = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    sketcher, objective = Sketcher(), SinkhornDrift()
    optimizer = torch.optim.Adam(sketcher.parameters(), betas=(0.9, 0.99))
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 3e-3 * min(1.0, 2 - 2 * step / steps)
        real_captions = draw_captions(count, rng)
        real = draw_reals(real_captions, rng, spread)
        captions = dropped(of_generated(real_captions, rng), rng)
        alpha = 1 + 1.5 * torch.rand((), generator=rng) if guided and step % 2 else torch.ones(())
        alphas = alpha.expand(count)
        pictures = sketcher(torch.randn(count, Z_DIM, generator=rng), captions, alphas)
        words = Captions(captions, dropped(of_real(real_captions, rng), rng), alphas if guided else None, expected)
        loss = objective(as_pyramid(pictures), as_pyramid(real), words, before).loss
        before = (as_pyramid(pictures.detach()), captions) if previous else None
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return sketcher


@torch.no_grad()
def judged(sketcher: Sketcher, alpha: float = 1.0) -> dict[str, float]:
    """How often attributes are as captions say; within a caption, the spread around them and the rarer mode's share.

    The true values are nearly 1, 0.3 and 0.44 (a half, were there more than 50 pictures a caption).
    """
    rng = torch.Generator().manual_seed(99)
    captions = draw_captions(80, rng).repeat_interleave(50, dim=0)
    pictures = sketcher(torch.randn(len(captions), Z_DIM, generator=rng), captions, torch.full((len(captions),), alpha))
    named, by_chance = pictures[:, :, :EACH].flatten(1), pictures[:, :, EACH]
    right = named.sign() == captions.sign()
    share = (by_chance > 0).float().unflatten(0, (80, 50)).mean(dim=1)
    return {
        "obeys": right.float().mean().item(),
        "spread": named.unflatten(0, (80, 50)).var(dim=1).mean().sqrt().item(),
        "second": share.minimum(1 - share).mean().item(),
    }
