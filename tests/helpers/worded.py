"""Small generators that take words, saved as a run saves them, with weights at which words matter."""

from pathlib import Path
from typing import Any

import torch

from dinogen.networks import Generator
from dinogen.reader import Reader
from dinogen.text import Whitening, make_text_encoder

CAPTIONS = ["a man with glasses", "a woman", "a smiling woman with red hair", "a bald man", "an old man in a hat"]
NARROW: dict[str, Any] = {"img_resolution": 16, "z_dim": 16, "w_dim": 16, "channel_base": 128, "channel_max": 16}


def save_worded(folder: Path, encoder: str, seed: int = 0, guidance: float = 2.5) -> tuple[Generator, Reader]:
    """Write a snapshot into a folder.

    Args:
        folder: for the snapshot.
        encoder: as `make_text_encoder` takes it.
        seed: of the weights.
        guidance: the most that it has learned.
    """
    reader = Reader(encoder, make_text_encoder(encoder), attention=True, guidance=guidance)
    reader.whitening = Whitening.fit(reader.table.pooled(CAPTIONS))
    torch.manual_seed(seed)
    generator = Generator(**NARROW, **reader.sizes).eval()
    with torch.no_grad():
        for name, parameter in generator.named_parameters():
            if not parameter.any() and not name.endswith("position"):
                # A caption counts twice, and guidance multiplies it: as large as the others they would drown a walk.
                std = {"caption.pooled.weight": 0.3, "caption.guidance.weight": 0.1}.get(name, 1.0)
                parameter.normal_(std=std)
    generator.update_w_avg()
    folder.mkdir(parents=True)
    reader.save(folder)
    generator.save_pretrained(folder, config=NARROW | reader.sizes)
    return generator, reader
