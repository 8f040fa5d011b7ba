"""What every teacher is: a frozen backbone of some family, and the pyramid made of what it sees."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinogen.pyramid import Pyramid, StagedSpec, colour_name, colour_statistics, level_name, pool, resize

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Backbone(nn.Module, ABC):
    """A vision transformer as the project sees it; a family of them is one subclass.

    Attributes:
        patch_size: side of a patch in pixels.
        width: C, the length of a token.
        mean, std: of red, green and blue in [0, 1], by which its input is normalised.
    """

    patch_size: int
    width: int
    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD

    @classmethod
    @abstractmethod
    def load(cls, source: str) -> Self:
        """Open a saved one in float32. Only safetensors are read, never a pickle.

        Args:
            source: a folder or a hub id.

        Raises:
            OSError, ValueError: it could not be read.
        """

    @property
    @abstractmethod
    def blocks(self) -> Sequence[nn.Module]:
        """The transformer blocks, first to last: what is compiled, recomputed and sharded one by one."""

    def weights(self) -> Iterable[Tensor]:
        """All weights as they were published, whatever parts the library makes of them."""
        return self.state_dict().values()

    @abstractmethod
    def look(self, pixels: Tensor, layers: Sequence[int]) -> tuple[dict[int, Tensor], Tensor]:
        """Look at normalised images.

        Args:
            pixels: `[N, 3, R, R]`; the patch size divides R.
            layers: blocks whose output is wanted, counted from 1.

        Returns:
            The patch tokens by layer, `[N, P, C]` row by row without other tokens, and the class token, `[N, C]`. Those
            of the last block have passed the model's final norm, the others are as the blocks left them.
        """


class Teacher(nn.Module):
    """A frozen backbone. Gradients flow through it to the images, never into it; it cannot leave eval mode.

    Args:
        backbone: what looks.
        specs: which view, layers and levels there are in each stage.
    """

    def __init__(self, backbone: Backbone, specs: StagedSpec):
        super().__init__()
        self.backbone = backbone.requires_grad_(False).eval()
        self.specs = specs
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(backbone.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(backbone.std).view(1, 3, 1, 1), persistent=False)

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The transformer blocks, first to last."""
        return self.backbone.blocks

    @property
    def device(self) -> torch.device:
        """Where it lies."""
        return self.mean.device

    @property
    def dtype(self) -> torch.dtype:
        """Of its weights."""
        return next(self.backbone.parameters()).dtype

    def train(self, mode: bool = True) -> "Teacher":
        """Stay in eval mode whatever is asked."""
        return super().train(False)

    def cast_weights(self, dtype: torch.dtype) -> None:
        """Keep the weights in another type. Buffers, such as rotary frequencies, stay exact."""
        for parameter in self.backbone.parameters():
            parameter.data = parameter.data.to(dtype)

    def forward(self, images: Tensor) -> Pyramid:
        """Look at images.

        Args:
            images: `[N, 3, R, R]` in [-1, 1]. R says which stage it is; another R is seen as in the next finer stage.

        Returns:
            The stage's whole pyramid in float32, differentiable with respect to `images`. The last layer's tokens
            have passed the model's own final norm; those of earlier layers are normalised without weights.
        """
        spec = self.specs.nearest(images.shape[-1])
        images = resize(images.float(), spec.input_size)
        tokens, class_token = self.backbone.look(((images + 1) / 2 - self.mean) / self.std, spec.layers)
        pyramid: Pyramid = {"cls": class_token.float()}
        for layer in spec.layers:
            patches = tokens[layer].float()
            if layer != len(self.blocks):
                patches = F.layer_norm(patches, (spec.width,))
            levels = spec.levels_of(layer)
            finest = pool(patches.transpose(1, 2).unflatten(2, (spec.grid, spec.grid)), levels[-1])
            pyramid |= {level_name(layer, g): pool(finest, g) for g in levels}
        return pyramid | {colour_name(g): colour_statistics(images, g) for g in spec.colour_levels}


def hash_weights(weights: Iterable[Tensor]) -> str:
    """First 16 hex digits of a hash of all weights that does not depend on how they are named and ordered."""
    digests = sorted(
        hashlib.sha256(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data).digest()
        for tensor in weights
        if tensor.ndim
    )
    return hashlib.sha256(b"".join(digests)).hexdigest()[:16]
