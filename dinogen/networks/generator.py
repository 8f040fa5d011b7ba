"""The generator: one pass from a latent to an image."""

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from dinogen.errors import DinogenError
from dinogen.networks.mapping import MappingNetwork
from dinogen.networks.synthesis import SynthesisNetwork
from dinogen.networks.words import CaptionStyle, Words

W_AVG_SAMPLES = 4096
ATTENTION_AT = (16, 32)
TEXT_PARTS = ("caption.", "synthesis.attention.")  # beginnings of the names of parameters for words


class Generator(nn.Module, PyTorchModelHubMixin):
    """Latents to images. `Generator.from_pretrained(folder_or_hub_id)` opens a snapshot.

    All blocks exist from the start, so that a stage changes no parameter's name or identity.

    Args:
        img_resolution: side of the finished images, a power of two from 4 up.
        z_dim: length of a latent.
        w_dim: length of a style.
        mapping_layers: layers of the mapping network.
        channel_base: channels times resolution, before the cap.
        channel_max: cap on the channels of a block.
        trained_resolution: what it draws unless told otherwise: the stage that a snapshot was taken at; None is
            the last.
        trained_alpha: how far that stage's block had been faded in.
        text_dim: length of a caption's whitened embedding; 0 takes no words.
        token_dim: length of a caption's token; 0 lets no features look at tokens.
        attention_at: resolutions of the maps that look at them.
    """

    def __init__(
        self,
        img_resolution: int = 32,
        z_dim: int = 128,
        w_dim: int = 128,
        mapping_layers: int = 2,
        channel_base: int = 1024,
        channel_max: int = 128,
        trained_resolution: int | None = None,
        trained_alpha: float = 1.0,
        text_dim: int = 0,
        token_dim: int = 0,
        attention_at: Sequence[int] = ATTENTION_AT,
    ):
        super().__init__()
        self.w_avg: Tensor
        self.img_resolution = img_resolution
        self.z_dim = z_dim
        self.w_dim = w_dim
        self.trained_resolution = trained_resolution or img_resolution
        self.trained_alpha = trained_alpha
        self.mapping = MappingNetwork(z_dim, w_dim, mapping_layers)
        self.synthesis = SynthesisNetwork(w_dim, img_resolution, channel_base, channel_max, token_dim, attention_at)
        self.caption = CaptionStyle(text_dim, w_dim) if text_dim else None
        self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(
        self,
        z: Tensor,
        resolution: int | None = None,
        alpha: float | Tensor | None = None,
        truncation_psi: float = 1.0,
        words: Words | None = None,
    ) -> Tensor:
        """Draw one image for each latent.

        Args:
            z: `[N, z_dim]`, standard normal.
            resolution: side of the images; None takes the trained one.
            alpha: fade-in of the last block, 0 to 1; None takes the trained one.
            truncation_psi: 1 keeps all variety, 0 draws the average style.
            words: the images' captions; None gives none of them one.

        Returns:
            `[N, 3, resolution, resolution]`, nominally in [-1, 1], not clipped.
        """
        return self.draw(self.style(z, truncation_psi, words), resolution, alpha, words)

    def style(self, z: Tensor, truncation_psi: float = 1.0, words: Words | None = None) -> Tensor:
        """Latents `[N, z_dim]` on any device to styles `[N, w_dim]`, pulled towards the average style.

        Args:
            z: standard normal.
            truncation_psi: 1 keeps all variety, 0 gives the average style. What words add is not pulled.
            words: the images' captions, on any device.

        Raises:
            DinogenError: words for a generator that takes none.
        """
        w = self.mapping(z.to(self.w_avg.device))
        w = w if truncation_psi == 1 else self.w_avg.lerp(w, truncation_psi)
        if words is None:
            return w
        if self.caption is None:
            raise DinogenError("this model was trained without text: it takes no words")
        return w + self.caption(words.to(self.w_avg.device))

    def draw(
        self,
        w: Tensor,
        resolution: int | None = None,
        alpha: float | Tensor | None = None,
        words: Words | None = None,
    ) -> Tensor:
        """`forward` from styles `[N, w_dim]`, or `[N, blocks, w_dim]` for style mixing, and the words to look at."""
        resolution = resolution or self.trained_resolution
        if alpha is None:
            alpha = self.trained_alpha if resolution == self.trained_resolution else 1.0
        return self.synthesis(w, resolution, alpha, None if words is None else words.to(self.w_avg.device))

    @property
    def takes_words(self) -> bool:
        """Whether captions steer it."""
        return self.caption is not None

    @property
    def fingerprint(self) -> str:
        """8 hex digits that tell it from other generators, and from itself at another time of training."""
        return hashlib.sha256(self.w_avg.cpu().numpy().tobytes()).hexdigest()[:8]

    @torch.no_grad()
    def update_w_avg(self) -> None:
        """Set the average style that truncation pulls towards, from always the same latents."""
        latents = torch.randn(W_AVG_SAMPLES, self.z_dim, generator=torch.Generator().manual_seed(0))
        self.w_avg.copy_(self.mapping(latents.to(self.w_avg.device)).mean(dim=0))

    @classmethod
    def from_pretrained(cls, *args: Any, strict: bool = True, **kwargs: Any) -> "Generator":
        """Open a snapshot; weights that are missing or too many are refused."""
        return super().from_pretrained(*args, strict=strict, **kwargs)

    @classmethod
    def _load_as_pickle(cls, model: "Generator", model_file: str, *_: Any) -> "Generator":
        # The mixin falls back to pickles where a hub repository has no safetensors.
        raise DinogenError(f"{model_file} is a pickle, which could run anything; dinogen opens safetensors only")
