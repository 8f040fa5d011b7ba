"""What a CLIP sees in each crop, so that text can steer a generator though nobody captioned the pictures."""

import torch
import torch.nn.functional as F
from torch import Tensor

from dinogen.clip import open_clip_images
from dinogen.data.layout import EmbeddingLayout
from dinogen.data.manifest import Embedder
from dinogen.errors import DinogenError
from dinogen.text import make_text_encoder

TOGETHER = 16  # crops that are looked at together, the last ones made up with black ones


class CropEmbedder:
    """Makes embeddings of crops.

    Args:
        name: a hub id or a folder with a whole CLIP.
        device: where it computes.

    Attributes:
        about: which CLIP it is, for the manifest.
        layout: of the files that hold the embeddings.

    Raises:
        DinogenError: neither the folder nor the hub gives a CLIP, or one of its halves is missing.
    """

    def __init__(self, name: str, device: torch.device):
        self.images = open_clip_images(name).to(device)
        if not self.images.projected:
            raise DinogenError(f"--clip {name}: has no projection into the space of captions; take a whole CLIP")
        captions = make_text_encoder(name, "--clip")
        if captions.width != self.images.width:
            raise DinogenError(f"--clip {name}: its two halves do not fit each other; copy the whole model again")
        self.about = Embedder(name, self.images.fingerprint, captions.fingerprint, captions.width)
        self.layout = EmbeddingLayout(captions.width)

    def __call__(self, images: Tensor) -> Tensor:
        """Embeddings of length one.

        Args:
            images: `[N, 3, R, R]` in [-1, 1].

        Returns:
            fp16 `[N, D]`, on the CPU.
        """
        rows = []
        for some in images.split(TOGETHER):
            # Sums are not the same to the last bit in batches of other shapes, and shards must be.
            whole = F.pad(some, (0, 0, 0, 0, 0, 0, 0, TOGETHER - len(some)), value=-1.0)
            rows.append(
                F.normalize(self.images(((whole + 1) * 127.5).round())[: len(some)].float(), dim=1).half().cpu()
            )
        return torch.cat(rows)
