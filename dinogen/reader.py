"""From captions to what a generator and an objective take: the same in training and in sampling."""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from dinogen.files import write_json
from dinogen.networks.words import Words
from dinogen.text import CaptionTable, TextEncoder, Whitening
from dinogen.text.base import STEP
from dinogen.text.whitening import MOST

NOTES_FILE = "words.json"
WHITENING_FILE = "words.safetensors"


class Reader:
    """Reads captions with a frozen encoder and whitens what it makes of them.

    Args:
        name: of the encoder, as `make_text_encoder` takes it.
        encoder: on the device where all of it computes.
        attention: whether features look at tokens, where the encoder has some.
        whitening: None until it has been fitted.
    """

    def __init__(self, name: str, encoder: TextEncoder, attention: bool, whitening: Whitening | None = None):
        self.name, self.encoder, self.attention, self.whitening = name, encoder, attention, whitening
        self.table = CaptionTable(encoder)
        # Not the whitening's width: few captions have few directions, and a network's sizes must not depend on them.
        self.text_dim = min(MOST, encoder.width)
        self.token_dim = encoder.token_width if attention else 0

    @property
    def sizes(self) -> dict[str, int]:
        """What a generator must be built with to take its words."""
        return {"text_dim": self.text_dim, "token_dim": self.token_dim}

    @torch.no_grad()
    def vectors(self, captions: Sequence[str | None]) -> Tensor:
        """Whitened embeddings `[N, text_dim]` of length one; zeros for the null caption."""
        assert self.whitening is not None, "it is fitted or restored first"
        white = self.whitening(self.table.pooled(captions))
        return F.pad(white, (0, self.text_dim - white.shape[1]))

    @torch.no_grad()
    def __call__(self, captions: Sequence[str | None]) -> Words:
        """What a generator takes; None and the empty text are the null caption."""
        if not self.token_dim:
            return Words(self.vectors(captions))
        encoded = self.table(captions)
        # Few different lengths: a compiled generator is compiled anew for each.
        missing = max(STEP, -(-encoded.tokens.shape[1] // STEP) * STEP) - encoded.tokens.shape[1]
        tokens, mask = F.pad(encoded.tokens, (0, 0, 0, missing)), F.pad(encoded.mask, (0, missing))
        return Words(self.vectors(captions), tokens, mask)

    def save(self, folder: Path) -> None:
        """Write down which encoder it was, and the whitening, beside a generator's weights."""
        assert self.whitening is not None
        on_cpu = {name: part.cpu().contiguous() for name, part in self.whitening.tensors().items()}
        save_file(on_cpu, folder / WHITENING_FILE)
        fingerprints = {"fingerprint": self.encoder.fingerprint, "whitening": self.whitening.fingerprint}
        write_json(folder / NOTES_FILE, {"encoder": self.name, **fingerprints, "attention": self.attention})
