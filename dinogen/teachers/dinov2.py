"""DINOv2 (arXiv 2304.07193), with and without register tokens (arXiv 2309.16588)."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import Dinov2Config, Dinov2Model

from dinogen.files import atomic_folder
from dinogen.teachers.vit import TransformersViT

# As published: width, layers, heads.
ARCHITECTURES = {
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
    "giant": (1536, 40, 24),
}
PUBLISHED_IMAGE_SIZE = 518  # of the position embeddings, which are interpolated to the input's
SEED = 0


class Dinov2(TransformersViT):
    """Around a `Dinov2Model` or a `Dinov2WithRegistersModel`."""

    @property
    def blocks(self) -> Sequence[nn.Module]:
        return self.model.encoder.layer

    def weights(self) -> Iterable[Tensor]:
        # The giant's gate and its other half were published as one matrix. Some versions of the library split it.
        state = self.state_dict()
        for gate in [name for name in state if ".gate_proj." in name]:
            state[gate] = torch.cat([state[gate], state.pop(gate.replace(".gate_proj.", ".up_proj."))])
        return state.values()


def architecture(name: str) -> Dinov2Config:
    """The configuration of one of `ARCHITECTURES`."""
    width, layers, heads = ARCHITECTURES[name]
    return Dinov2Config(
        hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, patch_size=14,
        image_size=PUBLISHED_IMAGE_SIZE, use_swiglu_ffn=name == "giant",
    )  # fmt: skip


def save_random_dinov2(name: str, folder: Path) -> Path:
    """A DINOv2 of a published architecture with random weights, saved as a pretrained one would be.

    Args:
        name: small, base, large or giant.
        folder: where; left alone if it is there already.
    """
    if not folder.exists():
        torch.manual_seed(SEED)
        model = Dinov2Model(architecture(name))
        with atomic_folder(folder) as temporary:
            model.save_pretrained(temporary)
    return folder
