"""From a style to an image, block by block, each twice as large as the one before."""

import math
from collections.abc import Iterable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinogen.networks.words import WordAttention, Words

FIRST_RESOLUTION = 4
CHANNELS_PER_GROUP = 8
POSITION_GAIN = 4  # its learning rate over the convolutions': each of its numbers belongs to one place only


def block_resolutions(img_resolution: int) -> list[int]:
    """The resolutions of the blocks: 4, 8, 16 … `img_resolution`, which must be a power of two from 4 up."""
    return [2**k for k in range(2, img_resolution.bit_length())]


def upsample(x: Tensor) -> Tensor:
    """Bilinear `[N, C, R, R]` → `[N, C, 2R, 2R]`."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


class ModulatedConv(nn.Module):
    """3×3 convolution, position embedding, group normalisation, then scale and shift by the style.

    In aligned crops eyes are where eyes are: a learned map added at every resolution says where, as a vision
    transformer's position embedding does. Without it all knowledge of places has to be grown out of the 4×4 start,
    which takes thousands of steps.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        w_dim: length of a style.
        resolution: side of the map.
    """

    def __init__(self, in_channels: int, out_channels: int, w_dim: int, resolution: int):
        super().__init__()
        self.position = nn.Parameter(torch.zeros(out_channels, resolution, resolution))
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False)
        groups = math.gcd(out_channels, max(1, out_channels // CHANNELS_PER_GROUP))
        self.norm = nn.GroupNorm(groups, out_channels, affine=False)
        self.style = nn.Linear(w_dim, 2 * out_channels)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        scale, shift = self.style(w)[:, :, None, None].chunk(2, dim=1)
        x = self.conv(x)
        # In the type and the memory layout of the map, so that what follows need not convert whole maps.
        position = (POSITION_GAIN * self.position[None]).to(x.dtype, memory_format=torch.channels_last)
        x = self.norm(x.add_(position))
        return F.leaky_relu_(torch.addcmul(shift.to(x.dtype), x, (1 + scale).to(x.dtype)), 0.2)


class ToRGB(nn.Module):
    """1×1 convolution to three channels. Its weights start random: through the norms of a frozen encoder a constant
    image would have exploding gradients."""

    def __init__(self, in_channels: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 3, kernel_size=1)
        nn.init.normal_(self.conv.weight, std=0.3 / math.sqrt(in_channels))
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class SynthesisBlock(nn.Module):
    """`[N, in, R/2, R/2]` → `[N, out, R, R]` and its contribution to the image.

    The first block (4×4) has no input: it draws its map from the style.
    """

    def __init__(self, in_channels: int, out_channels: int, w_dim: int, resolution: int):
        super().__init__()
        self.resolution = resolution
        self.is_first = resolution == FIRST_RESOLUTION
        if self.is_first:
            self.start = nn.Linear(w_dim, out_channels * FIRST_RESOLUTION**2)
            in_channels = out_channels
        self.conv0 = ModulatedConv(in_channels, out_channels, w_dim, resolution)
        self.conv1 = ModulatedConv(out_channels, out_channels, w_dim, resolution)
        self.to_rgb = ToRGB(out_channels)

    def forward(self, x: Tensor | None, w: Tensor) -> Tensor:
        x = self.start(w).unflatten(1, (-1, FIRST_RESOLUTION, FIRST_RESOLUTION)) if x is None else upsample(x)
        return self.conv1(self.conv0(x, w), w)


class SynthesisNetwork(nn.Module):
    """Styles to images, with images of all resolutions added up (StyleGAN2's skip generator, arXiv 1912.04958).

    Args:
        w_dim: length of a style.
        img_resolution: resolution of the last block.
        channel_base: channels times resolution, before the cap.
        channel_max: the cap on channels.
        token_dim: length of a caption's token; 0 looks at none.
        attention_at: resolutions of the maps that look at tokens.
    """

    def __init__(
        self,
        w_dim: int,
        img_resolution: int,
        channel_base: int,
        channel_max: int,
        token_dim: int = 0,
        attention_at: Sequence[int] = (),
    ):
        super().__init__()
        self.blocks = nn.ModuleDict()
        widths, in_channels = {}, 0
        for resolution in block_resolutions(img_resolution):
            channels = max(CHANNELS_PER_GROUP, min(channel_base // resolution, channel_max))
            self.blocks[f"b{resolution}"] = SynthesisBlock(in_channels, channels, w_dim, resolution)
            widths[resolution] = in_channels = channels
        # After the blocks, which a seed so gives the same weights with and without text.
        looking = sorted(widths.keys() & set(attention_at)) if token_dim else []
        self.attention = nn.ModuleDict({f"b{size}": WordAttention(widths[size], token_dim) for size in looking})

    def forward(self, w: Tensor, resolution: int, alpha: float | Tensor = 1.0, words: Words | None = None) -> Tensor:
        """Draw images.

        Args:
            w: `[N, w_dim]`, or `[N, blocks, w_dim]` for one style a block (style mixing).
            resolution: side of the images; the blocks beyond it are left alone.
            alpha: how much of the last block is seen, 0 to 1. At 0 the image is the enlarged one of the stage before.
            words: the images' captions, whose tokens are looked at.

        Returns:
            `[N, 3, resolution, resolution]`, nominally in [-1, 1], not clipped.
        """
        x, image = None, None
        blocks = cast(Iterable[tuple[str, SynthesisBlock]], self.blocks.items())
        for index, (name, block) in enumerate(blocks):
            style = w if w.ndim == 2 else w[:, index]
            x = block(x, style)
            if words is not None and words.tokens is not None and name in self.attention:
                x = self.attention[name](x, words.tokens, words.mask)
            rgb = block.to_rgb(x)
            fading = block.resolution == resolution and not block.is_first
            if image is None:
                image = rgb
            else:
                image = upsample(image) + (alpha * rgb if fading else rgb)
            if block.resolution == resolution:
                return image
        raise ValueError(f"no block of resolution {resolution}")
