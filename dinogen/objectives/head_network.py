"""Discriminator heads on a frozen teacher's tokens (Projected GAN, arXiv 2111.01007; StyleGAN-T, arXiv 2301.09515)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinogen.pyramid import Pyramid, StagedSpec, level_name

CHANNELS_PER_GROUP = 8


class Head(nn.Module):
    """A small convolutional network on one map: is this neighbourhood of tokens real?

    Args:
        width: C, length of a token.
        channels: inside.
    """

    def __init__(self, width: int, channels: int):
        super().__init__()
        self.enter = nn.Conv2d(width, channels, kernel_size=1)
        self.norm = nn.GroupNorm(max(1, channels // CHANNELS_PER_GROUP), channels)
        self.mix = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.leave = nn.Conv2d(channels, 1, kernel_size=1)

    def forward(self, tokens: Tensor) -> Tensor:
        """`[N, C, g, g]` to logits `[N, g · g]`, positive for real."""
        x = F.leaky_relu(self.enter(tokens), 0.2)
        x = x + F.leaky_relu(self.mix(self.norm(x)), 0.2)
        return self.leave(x).flatten(1)


class Heads(nn.Module):
    """A head on the finest map of every tapped layer, for each size that it has in some stage.

    Args:
        specs: of the teacher's pyramids.
        channels: inside each head.
    """

    def __init__(self, specs: StagedSpec, channels: int):
        super().__init__()
        self.width = specs.finest.width
        # From coarse to fine: of the maps of a pyramid, the last one that has a head is its layer's finest.
        self.names_of = {
            layer: [level_name(layer, g) for g in sorted({specs[stage].levels_of(layer)[-1] for stage in specs})]
            for layer in specs.finest.layers
        }
        names = [name for names in self.names_of.values() for name in names]
        self.heads = nn.ModuleDict({name: Head(self.width, channels) for name in names})

    def tokens_of(self, pyramid: Pyramid) -> dict[str, Tensor]:
        """The maps that the heads look at, in float32: the finest one of each layer."""
        finest = [[name for name in names if name in pyramid][-1] for names in self.names_of.values()]
        return {name: pyramid[name].float() for name in finest}

    def forward(self, tokens: dict[str, Tensor]) -> list[Tensor]:
        """Logits `[N, g · g]` of the heads of these maps."""
        return [self.heads[name](maps) for name, maps in tokens.items()]


def heads_loss(heads: Heads, real: dict[str, Tensor], generated: dict[str, Tensor]) -> Tensor:
    """What the heads minimise (the logistic loss), averaged over places, heads and images."""
    losses = [F.softplus(-logits).mean() for logits in heads(real)] + [
        F.softplus(logits).mean() for logits in heads(generated)
    ]
    return torch.stack(losses).sum() / len(real)


def generator_loss(heads: Heads, generated: dict[str, Tensor]) -> Tensor:
    """What the generator minimises (not saturating), averaged over places, heads and images."""
    return torch.stack([F.softplus(-logits).mean() for logits in heads(generated)]).mean()


def gradient_penalty(heads: Heads, real: dict[str, Tensor]) -> Tensor:
    """R1 (arXiv 1801.04406, equation 9) on the heads' inputs rather than on pixels: nothing passes the teacher.

    The squared length of the gradient of a head's logits in a token, averaged over tokens, heads and images. Tokens are
    measured in units of √C, about their length, so that the penalty's weight suits every teacher.

    Args:
        heads: to be penalised.
        real: tokens `[N, C, g, g]` of real images.
    """
    inputs = {name: tokens.detach().requires_grad_(True) for name, tokens in real.items()}
    total = torch.stack([logits.sum() for logits in heads(inputs)]).sum()
    gradients = torch.autograd.grad(total, list(inputs.values()), create_graph=True)
    lengths = [gradient.square().sum(dim=1).mean() for gradient in gradients]
    return heads.width * torch.stack(lengths).mean()
