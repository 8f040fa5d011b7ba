"""Coloured pictures and a CLIP that knows their colours: text without captions in a minute on one core."""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from transformers.utils.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from dinogen.text.towers import Clip
from helpers.text_models import save_clip

COLOURS = {"red": (0.85, 0.15, 0.15), "green": (0.15, 0.75, 0.2), "blue": (0.15, 0.25, 0.85), "white": (0.9, 0.9, 0.9)}
PHRASES = ("a {} picture", "{}", "a {} face", "all {}")
WIDTH = 128  # numbers of an embedding; noise hides a short one
SPREAD = 0.07  # of a picture's colour around its name's


def coloured(number: int) -> tuple[int, Tensor]:
    """The number of a picture's colour, and the colour itself, `[3]` in [0, 1]."""
    rng = torch.Generator().manual_seed(number)
    which = int(torch.randint(len(COLOURS), (), generator=rng))
    colour = torch.tensor(list(COLOURS.values())[which])
    return which, (colour + SPREAD * torch.randn(3, generator=rng)).clamp(0, 1)


def nearest_colour(images: Tensor) -> Tensor:
    """The number of the colour that each image has on average, `[N]`; images uint8 `[N, 3, R, R]`."""
    return torch.cdist(images.float().mean(dim=(2, 3)) / 255, torch.tensor(list(COLOURS.values()))).argmin(dim=1)


def make_coloured_crops(folder: Path, count: int) -> None:
    """Crops of one colour each, without captions."""
    folder.mkdir(parents=True)
    for number in range(count):
        pixels = tuple((coloured(number)[1] * 255).round().int().tolist())
        Image.new("RGB", (256, 256), pixels).save(folder / f"{number:016x}-0.png")
        record = {"source": f"{number}.png", "source_sha256": f"{number:064x}"}
        (folder / f"{number:016x}-0.json").write_text(json.dumps(record))


def save_clip_of_colours(folder: Path, steps: int = 120) -> None:
    """A tiny CLIP, trained for seconds by its own contrastive loss (arXiv 2103.00020) on pictures with captions."""
    folder.mkdir(parents=True, exist_ok=True)
    model = save_clip(folder, width=WIDTH)
    tower = Clip.load(str(folder))
    texts = [phrase.format(colour) for colour in COLOURS for phrase in PHRASES]
    ids, mask = tower.padded(tower.ids(texts, cut=True), 16)
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD))
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for step in range(steps):
        which, colours = zip(*(coloured(10**6 + 32 * step + i) for i in range(32)))
        phrase = torch.randint(len(PHRASES), (32,), generator=torch.Generator().manual_seed(step))
        rows = torch.tensor(which) * len(PHRASES) + phrase
        pixels = ((torch.stack(colours)[:, :, None, None] - mean) / std).expand(-1, -1, 16, 16)
        images = F.normalize(model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output))
        tokens = model.text_model(input_ids=ids[rows], attention_mask=mask[rows].long()).last_hidden_state
        captions = F.normalize(model.text_projection(tokens[torch.arange(32), mask[rows].sum(dim=1) - 1]))
        same = torch.tensor(which)[:, None] == torch.tensor(which)
        target = same / same.sum(dim=1, keepdim=True)
        logits = 10 * images @ captions.T
        loss = F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
