"""How much fine detail there is, and whether each face has its own. Tensors only; images are uint8 `[n, 3, R, R]`.

Images are split into octaves (`dinogen.octaves`), which are named by their sides. Of each octave only the inner face of
an aligned crop counts: eyes, nose and mouth. Hair, clothes and background hardly show there, and in them generators
differ long before faces do.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from dinogen.octaves import octaves

ROWS = (0.36, 0.76)  # the inner face of an aligned crop, as shares of its height and width
COLUMNS = (0.28, 0.74)
COARSEST = 16  # pixels: in smaller images the inner face is a handful of them

METHOD = (
    f"octaves of the image (halved by averaging, enlarged bilinearly), down to {COARSEST} px; the inner face is rows "
    f"{ROWS[0]:.0%} to {ROWS[1]:.0%} and columns {COLUMNS[0]:.0%} to {COLUMNS[1]:.0%}"
)


@dataclass(frozen=True)
class Energies:
    """Mean squares of an octave of the inner face, over all images and pixels.

    Args:
        own: `[n]`, each image's energy about the mean of all images; their mean is not biased by the number of images.
        shared: energy of the mean of all images, less the share of it that chance would leave in a mean of n images.
    """

    own: Tensor
    shared: float

    @property
    def individual(self) -> float:
        return self.own.mean().item()

    @property
    def shared_part(self) -> float:
        """What is the same in all, as a share of all energy: 1 if all are one image, about 0 for noise."""
        return over(max(0.0, self.shared), self.individual + self.shared)


def inner_face(images: Tensor) -> Tensor:
    """The window of the inner face, from `[n, 3, R, R]`."""
    top, bottom, left, right = (round(share * images.shape[-1]) for share in ROWS + COLUMNS)
    return images[:, :, top:bottom, left:right]


def energies(images: Tensor) -> dict[int, Energies]:
    """`Energies` of each octave, by its side; of two images or more."""
    found = {}
    for side, octave in octaves(images.float(), COARSEST)[0].items():
        pixels = inner_face(octave).flatten(1)
        mean = pixels.mean(dim=0)
        own = (pixels - mean).square().mean(dim=1).double() * len(pixels) / (len(pixels) - 1)
        found[side] = Energies(own, mean.square().mean().item() - own.mean().item() / len(pixels))
    return found


def top_octave_power(images: Tensor) -> Tensor:
    """Power `[n]` of each image at spatial frequencies in the top octave: from half of the highest one up."""
    side = images.shape[-1]
    # The window fades the borders out. A picture does not continue at its other side: the jump would look like detail.
    fade = torch.hann_window(side, periodic=False, device=images.device)
    pixels = images.float()
    spectrum = torch.fft.rfft2((pixels - pixels.mean(dim=(-2, -1), keepdim=True)) * fade * fade[:, None])
    radius = torch.hypot(torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)).to(images.device)
    return spectrum.abs().square()[..., (radius >= 0.25) & (radius <= 0.5)].mean(dim=(1, 2)).double()


def detail_votes(images: Tensor, reference: Tensor) -> dict[str, Tensor]:
    """What each image says of `individual_detail_*` and `top_octave_power`: the figures are the means, 1 is right."""
    ours, theirs = energies(images), energies(reference)
    votes = {f"individual_detail_{side}": of.own / (theirs[side].individual or 1.0) for side, of in ours.items()}
    return votes | {"top_octave_power": top_octave_power(images) / (top_octave_power(reference).mean().item() or 1.0)}


def shared_parts(images: Tensor) -> dict[str, float]:
    """`shared_part_*` of every octave."""
    return {f"shared_part_{side}": of.shared_part for side, of in energies(images).items()}


def over(a: float, b: float) -> float:
    """a / b; 0 where there is nothing at all, as in flat images."""
    return a / b if b > 0 else 0.0
