"""From a latent to a style."""

import torch.nn.functional as F
from torch import Tensor, nn


class MappingNetwork(nn.Module):
    """Latents `z` `[N, z_dim]` to styles `w` `[N, w_dim]` (StyleGAN, arXiv 1812.04948, section 2).

    Args:
        z_dim: length of a latent.
        w_dim: length of a style.
        num_layers: fully connected layers.
    """

    def __init__(self, z_dim: int, w_dim: int, num_layers: int):
        super().__init__()
        widths = [z_dim] + [w_dim] * num_layers
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths, widths[1:]))

    def forward(self, z: Tensor) -> Tensor:
        w = z * (z.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()
        for layer in self.layers:
            w = F.leaky_relu(layer(w), 0.2)
        return w
