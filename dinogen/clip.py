"""CLIP's half for images: embeddings that lie in one space with those of captions (arXiv 2103.00020)."""

from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from huggingface_hub.utils import logging as hub_logging
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, CLIPVisionModelWithProjection
from transformers.utils import logging as transformers_logging
from transformers.utils.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from dinogen.errors import DinogenError, first_line
from dinogen.teachers.base import hash_weights


class ClipImages(nn.Module):
    """A CLIP's vision half, frozen, in float32.

    Args:
        network: the library's, with its projection.
        projected: whether the weights of the projection were there; without them, its pooled output is taken.

    Attributes:
        size: side of its input in pixels; images are resized to it.
        width: D, the length of an embedding.
    """

    def __init__(self, network: Any, projected: bool):
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.projected = projected
        self.size: int = network.config.image_size
        self.width: int = network.visual_projection.out_features if projected else network.config.hidden_size
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(OPENAI_CLIP_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(OPENAI_CLIP_STD).view(1, 3, 1, 1), persistent=False)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of its weights."""
        return hash_weights(self.network.parameters())

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Look at images.

        Args:
            images: `[n, 3, R, R]`, RGB, from 0 to 255.

        Returns:
            float32 `[n, D]`, of any length.
        """
        size = (self.size, self.size)
        resized = F.interpolate(images.float(), size=size, mode="bicubic", antialias=True).round().clamp(0, 255)
        pixels = (resized / 255 - self.mean) / self.std
        if self.projected:
            return self.network(pixel_values=pixels).image_embeds
        return self.network.vision_model(pixel_values=pixels).pooler_output


def open_clip_images(model: str) -> ClipImages:
    """Open the vision half of a CLIP. Only safetensors are read, never a pickle.

    Args:
        model: a hub id such as openai/clip-vit-base-patch32, or a folder with a CLIP or its vision half.

    Raises:
        DinogenError: neither the folder nor the hub gives a CLIP.
    """
    hub_logging.set_verbosity_error()  # its retries would bury our one line
    transformers_logging.set_verbosity_error()  # so would its list of the text half's weights
    try:
        kind = AutoConfig.from_pretrained(model).model_type
        if kind not in ("clip", "clip_vision_model"):
            raise DinogenError(f"--clip {model} is a {kind}; take a CLIP, such as openai/clip-vit-base-patch32")
        loaded: Any = CLIPVisionModelWithProjection.from_pretrained(
            model, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise DinogenError(
            f"--clip {model} could not be loaded ({first_line(error)}). Without a network: run `hf download {model} "
            "--local-dir DIR` where there is one, copy DIR here and pass --clip DIR"
        ) from error
    network, missing = loaded[0], set(loaded[1]["missing_keys"])
    if missing - {"visual_projection.weight"}:
        raise DinogenError(f"--clip {model}: weights are missing, such as {min(missing)}; copy the whole model again")
    return ClipImages(network, not missing)
