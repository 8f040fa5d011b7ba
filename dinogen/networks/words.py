"""Captions in the generator: they join the style, and features look at their tokens."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEAD_CHANNELS = 32
CAPTION_GAIN = 2.0  # length of what the generator takes for an embedding, over that of normal noise as wide as it
GUIDANCE_START = 0.25  # how much more of a caption each unit of guidance takes before it has learned anything
GUIDANCE_GAIN = 4.0  # of what is learned on top: from few steps, as guidance is drawn in half of them
GUIDANCE_FREQUENCIES = (1.0, 2.0, 4.0, 8.0)  # radians for each unit of guidance


@dataclass(frozen=True)
class Words:
    """Captions of N images, as a frozen encoder sees them.

    Args:
        pooled: `[N, text_dim]`, whitened embeddings of length one; zeros are the null caption.
        tokens: `[N, T, token_dim]`; None lets no features look at tokens.
        mask: bool `[N, T]`, True where a token is one of the caption's; or float, how much each token counts among
            the others, from 0 (not at all) to 1. None: all of them.
        guidance: `[N]`, how far words are exaggerated, from 1 (not at all) up; None is 1.
    """

    pooled: Tensor
    tokens: Tensor | None = None
    mask: Tensor | None = None
    guidance: Tensor | None = None

    def __len__(self) -> int:
        return len(self.pooled)

    def to(self, device: torch.device) -> "Words":
        """The same on another device."""
        return self._each(lambda part: part.to(device, non_blocking=True))

    def __getitem__(self, rows: slice | Tensor) -> "Words":
        """Those of some of the images."""
        return self._each(lambda part: part[rows])

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Words":
        parts = {name: None if part is None else change(part) for name, part in vars(self).items()}
        return replace(self, **parts)


def words_between(start: Words, end: Words, shares: Tensor) -> Words:
    """Words on the way from some to others, for walks.

    What joins the style moves along a straight line. Tokens cannot: the attention looks at their directions alone, so
    that the faintest trace of a token would count as much as all of it. So both captions' tokens are there all the
    way, and how much each counts in the attention's softmax moves along a straight line. At both ends the others
    count nothing, and images are those of one caption.

    Args:
        start: of N images.
        end: as many, from the same encoder.
        shares: `[N]`, from 0 (all of the start) to 1 (all of the end).
    """
    shares = shares.to(start.pooled)
    guidance = None
    if start.guidance is not None or end.guidance is not None:
        ones = torch.ones_like(shares)
        ends = [ones if words.guidance is None else words.guidance for words in (start, end)]
        guidance = ends[0].lerp(ends[1], shares)
    pooled = start.pooled.lerp(end.pooled, shares[:, None])
    if start.tokens is None or end.tokens is None:
        return Words(pooled, guidance=guidance)
    sides = ((start.tokens, start.mask, 1 - shares), (end.tokens, end.mask, shares))
    weights = [
        share[:, None] * (torch.ones_like(tokens[:, :, 0]) if mask is None else mask) for tokens, mask, share in sides
    ]
    return Words(pooled, torch.cat([start.tokens, end.tokens], dim=1), torch.cat(weights, dim=1), guidance)


class CaptionStyle(nn.Module):
    """What captions add to styles (StyleGAN-T, arXiv 2301.09515, adds the text to the style in the same place).

    Guidance makes more of what a caption adds, and adds nothing of its own. It starts in a straight line, and learns
    how far to go for each number of a style. What a caption adds starts at zero, and the null caption adds nothing for
    ever.

    Args:
        text_dim: length of an embedding.
        w_dim: length of a style.
    """

    def __init__(self, text_dim: int, w_dim: int):
        super().__init__()
        self.pooled = nn.Linear(text_dim, w_dim, bias=False)
        self.guidance = nn.Linear(2 * len(GUIDANCE_FREQUENCIES), w_dim, bias=False)
        for layer in (self.pooled, self.guidance):
            nn.init.zeros_(layer.weight)

    def forward(self, words: Words) -> Tensor:
        """`[N, w_dim]`."""
        # An embedding has length one. As it is, it would be learned from far more slowly than a latent.
        w = self.pooled(words.pooled * (CAPTION_GAIN * self.pooled.in_features**0.5))
        if words.guidance is None:
            return w
        further = GUIDANCE_START * (words.guidance[:, None] - 1) + GUIDANCE_GAIN * self.guidance(waves(words.guidance))
        return w * (1 + further)


def waves(guidance: Tensor) -> Tensor:
    """Guidance `[N]` as `[N, 8]` smooth features, all zero where it is 1."""
    angles = (guidance[:, None] - 1) * guidance.new_tensor(GUIDANCE_FREQUENCIES)
    return torch.cat([angles.sin(), 1 - angles.cos()], dim=1)


class WordAttention(nn.Module):
    """Features look at the caption's tokens: cross-attention, added to the map. It starts at zero.

    Every place may also look at nothing, a key of zeros with a value of zeros: a caption without tokens adds nothing.

    Args:
        channels: of the map.
        token_dim: length of a token.
    """

    def __init__(self, channels: int, token_dim: int):
        super().__init__()
        self.heads = math.gcd(channels, max(1, channels // HEAD_CHANNELS))
        self.query = nn.Linear(channels, channels, bias=False)
        self.key_value = nn.Linear(token_dim, 2 * channels, bias=False)
        self.out = nn.Linear(channels, channels, bias=False)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """`[N, C, R, R]` to the same; `tokens` `[N, T, token_dim]`, `mask` `[N, T]`, see `Words`."""
        places = x.permute(0, 2, 3, 1).flatten(1, 2)
        key_value = self.key_value(F.layer_norm(tokens, tokens.shape[2:]))
        key, value = F.pad(key_value, (0, 0, 1, 0)).chunk(2, dim=2)
        query = self.query(F.layer_norm(places, places.shape[2:]))
        query, key, value = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (query, key, value))
        allowed = None if mask is None else F.pad(mask, (1, 0), value=1)[:, None, None]
        if allowed is not None and allowed.is_floating_point():
            allowed = allowed.log()  # added to the logarithm of what the softmax makes of a token: a factor of it
        seen = F.scaled_dot_product_attention(query, key, value, allowed).transpose(1, 2).flatten(2)
        return x + self.out(seen).to(x.dtype).transpose(1, 2).unflatten(2, x.shape[2:])
