"""DINOv3's vision transformers (arXiv 2508.10104): rotary positions, register tokens, patches of 16 pixels."""

from collections.abc import Sequence

from torch import nn

from dinogen.teachers.vit import TransformersViT


class Dinov3(TransformersViT):
    """Around a `DINOv3ViTModel`."""

    @property
    def blocks(self) -> Sequence[nn.Module]:
        # Versions of the library differ in whether an encoder lies between.
        return getattr(self.model, "model", self.model).layer
