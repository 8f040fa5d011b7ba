"""Small trained generators for exported pages, with and without words."""

import json
from pathlib import Path

import torch

from dinogen.model_card import Publication, Training, write_model_card
from dinogen.networks import Generator
from helpers.text_models import save_clip
from helpers.worded import NARROW, save_worded

ROOT = Path(__file__).parent.parent.parent
PROMPTS = ["a woman with red hair", "a bald man"]


def save_run(folder: Path) -> Path:
    """A judged run with a model card, whose generator looks at the tokens of words."""
    save_clip(folder / "clip")
    snapshot = folder / "snapshots" / "kimg000001.000"
    network, _ = save_worded(snapshot, str(folder / "clip"))
    training = Training("dino", 48, {"cc0 <b>|x": 40, "not stated": 8}, {"given": 48}, "drift", "clip")
    samples = torch.zeros(4, 3, 16, 16, dtype=torch.uint8)
    write_model_card(snapshot, network, training, 1000, samples, Publication(contact="ask@example"))
    spec = {"teacher": "/home/me/dino", "teacher_sha256": "0123456789abcdef", "input_size": 16, "patch_size": 8}
    spec |= {"width": 8, "layers": [1], "levels": [1, 2], "fine_layers": []}
    (folder / "config.yaml").write_text("data: shards\n")
    (folder / "teacher.json").write_text(json.dumps({"16": spec}))
    (folder / "report.json").write_text(json.dumps({"face_rate": 0.9}))
    return folder


def save_wordless(folder: Path) -> Path:
    """A snapshot without words, and without a card."""
    torch.manual_seed(1)
    network = Generator(**NARROW).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_()
    network.update_w_avg()
    network.save_pretrained(folder, config=NARROW)
    return folder
