"""Projection: the styles whose image is nearest to a picture (StyleGAN2, arXiv 1912.04958, appendix D)."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from dinogen.errors import DinogenError, UsageError
from dinogen.images import to_uint8
from dinogen.networks import Generator
from dinogen.opening import run_of
from dinogen.pyramid import pool, read_specs
from dinogen.sample import BATCH_SIZE, latents
from dinogen.teachers import Teacher, teacher_of

CANDIDATES = 64  # samples, of which the nearest is the start
LEARNING_RATE = 0.05  # in standard deviations of styles
COMMON = 0.3  # share of the steps with one style for all blocks: far ways are gone where all images are faces
COARSEST = 4  # side to which pixels are compared too

Look = Callable[[Tensor], dict[str, Tensor]]


@dataclass(frozen=True)
class Step:
    """Where a projection has got to.

    Args:
        w: `[blocks, w_dim]` on the CPU, the nearest so far.
        image: uint8 `[3, R, R]` on the CPU, as it is now.
        distance: of the nearest so far; see `Likeness`.
    """

    w: Tensor
    image: Tensor
    distance: float


class Likeness:
    """How far images are from a picture: in pixels of all sizes and in what a teacher sees.

    Each part is a mean square, over the picture's own variance in pixels, or over the mean square of its own map. The
    distance is their mean over pixels plus their mean over the maps of the pyramid; 0 is the same image.

    Args:
        picture: `[3, R, R]` in [-1, 1], on the device where all is computed.
        look: gives pyramids, such as a `Teacher`; None compares pixels only.
    """

    def __init__(self, picture: Tensor, look: Look | None):
        self.look = look
        with torch.no_grad():
            self.targets = self.parts_of(picture[None])
        sizes = [lambda value: value.var(correction=0), lambda value: value.square().mean()]  # pixels, the pyramid
        self.scales = [
            {name: size(value).clamp(min=1e-6) for name, value in part.items()}
            for part, size in zip(self.targets, sizes)
        ]

    def parts_of(self, images: Tensor) -> list[dict[str, Tensor]]:
        """What is compared: pixels by side, and the pyramid."""
        sides = [side for side in (images.shape[-1] >> k for k in range(12)) if side >= COARSEST]
        pixels = {str(side): pool(images, side) for side in sides}
        return [pixels] if self.look is None else [pixels, self.look(images)]

    def __call__(self, images: Tensor) -> Tensor:
        """Distances `[N]` of images `[N, 3, R, R]`."""
        total = images.new_zeros(len(images))
        for part, target, scale in zip(self.parts_of(images), self.targets, self.scales):
            off = [(part[name] - target[name]).square().flatten(1).mean(dim=1) / scale[name] for name in target]
            total = total + torch.stack(off).mean(dim=0)
        return total


def project(network: Generator, picture: Tensor, look: Look | None, steps: int, seed: int = 0) -> Iterator[Step]:
    """Walk from the sample that is nearest to a picture to the styles whose image is.

    Args:
        network: stays as it is, but takes no more gradients.
        picture: `[3, R, R]` in [-1, 1], R the trained resolution.
        look: see `Likeness`.
        steps: of the walk.
        seed: of the samples to begin with.

    Yields:
        The start, and what every step came to.
    """
    network.requires_grad_(False)
    device = network.w_avg.device
    likeness = Likeness(picture.to(device), look)
    w, spread = nearest_sample(network, likeness, seed)
    common = torch.zeros_like(w, requires_grad=True)
    own = torch.zeros(len(network.synthesis.blocks), len(w), device=device, requires_grad=True)
    optimizer = torch.optim.Adam([common, own], lr=LEARNING_RATE, betas=(0.9, 0.99))
    least, nearest = float("inf"), w.expand_as(own)
    for step in range(steps + 1):
        styles = w + spread * (common + own)
        image = network.draw(styles[None])
        distance = likeness(image).sum()
        if distance.item() < least:
            least, nearest = distance.item(), styles.detach()
        yield Step(nearest.cpu(), to_uint8(image)[0], least)
        gradients = torch.autograd.grad(distance, [common, own])
        common.grad, own.grad = gradients[0], gradients[1] if step >= COMMON * steps else None
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, 2 * (1 - step / (steps + 1)))
        optimizer.step()


@torch.no_grad()
def nearest_sample(network: Generator, likeness: Likeness, seed: int) -> tuple[Tensor, Tensor]:
    """The style `[w_dim]` of some samples that is nearest, and the standard deviation of styles."""
    w = network.style(latents(seed, 0, CANDIDATES, network.z_dim))
    distances = torch.cat([likeness(network.draw(some)) for some in w.split(BATCH_SIZE)])
    return w[distances.argmin()], w.std()


def teacher_of_model(model: str, name: str, device: torch.device) -> Teacher | None:
    """The teacher of a model's run, whose pyramids say what is near.

    Args:
        model: a run, or a snapshot in one.
        name: `none`; `auto`, None where the model is of no run or its teacher is out of reach; or the folder of a copy.
        device: where it shall lie.

    Raises:
        UsageError: a teacher was named, and the model is of no run.
        DinogenError: the one that was named is not there or is another one.
    """
    if name == "none":
        return None
    try:
        return open_teacher(model, name, device)
    except DinogenError as error:
        if name != "auto":
            raise
        print(f"Only pixels are compared: {error}", file=sys.stderr)
        return None


def open_teacher(model: str, name: str, device: torch.device) -> Teacher:
    """The teacher of a model's run.

    Args:
        model: a run, or a snapshot in one.
        name: `auto`, or the folder of a copy.
        device: where it shall lie.

    Raises:
        UsageError: the model is of no run.
        DinogenError: the teacher is not there or is another one.
    """
    run = run_of(model)
    if run is None:
        raise UsageError(
            f"{model}: not of a run, so that its teacher is not known; take the run that it comes from, or none"
        )
    specs = read_specs(run / "teacher.json")
    return teacher_of(specs, None if name == "auto" else name, flag="--teacher").to(device)
