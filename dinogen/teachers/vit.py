"""What the vision transformers of the `transformers` library have in common."""

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor
from transformers import AutoModel, PreTrainedModel

from dinogen.teachers.base import Backbone


class TransformersViT(Backbone):
    """A model whose tokens are: class token, register tokens, patches row by row.

    Args:
        model: of the `transformers` library.
    """

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model: Any = model
        self.patch_size, self.width = model.config.patch_size, model.config.hidden_size
        self.prefix_tokens = 1 + getattr(model.config, "num_register_tokens", 0)

    @classmethod
    def load(cls, source: str) -> Self:
        return cls(AutoModel.from_pretrained(source, use_safetensors=True, dtype=torch.float32))

    def look(self, pixels: Tensor, layers: Sequence[int]) -> tuple[dict[int, Tensor], Tensor]:
        output = self.model(pixel_values=pixels, output_hidden_states=True)
        outputs = [*output.hidden_states[:-1], output.last_hidden_state]
        return {layer: outputs[layer][:, self.prefix_tokens :] for layer in layers}, output.last_hidden_state[:, 0]
