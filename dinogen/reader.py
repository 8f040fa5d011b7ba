"""From captions to what a generator and an objective take: the same in training and in sampling."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from dinogen.errors import DinogenError, UsageError
from dinogen.files import write_json
from dinogen.networks.words import Words
from dinogen.opening import CONFIG_FILE, locate
from dinogen.tensor_files import DamagedFile, read_json, read_tensors
from dinogen.text import CaptionTable, TextEncoder, Whitening, text_encoder_of
from dinogen.text.base import STEP
from dinogen.text.whitening import MOST

NOTES_FILE = "words.json"
WHITENING_FILE = "words.safetensors"
NOTES = {"encoder": str, "fingerprint": str, "whitening": str, "attention": bool, "guidance": float}
MOST_LETTERS = 1000  # of a name or a fingerprint

# What images are known by: captions, None where there is none, or vectors that an encoder could have made, zeros for
# none.
Told = Sequence[str | None] | Tensor


class Reader:
    """Reads captions with a frozen encoder and whitens what it makes of them.

    Args:
        name: of the encoder, as `make_text_encoder` takes it.
        encoder: on the device where all of it computes.
        attention: whether features look at tokens, where the encoder has some.
        whitening: None until it has been fitted.
        guidance: the most that the generator learns.
    """

    def __init__(
        self,
        name: str,
        encoder: TextEncoder,
        attention: bool,
        whitening: Whitening | None = None,
        guidance: float = 1.0,
    ):
        self.name, self.encoder, self.attention, self.whitening = name, encoder, attention, whitening
        self.guidance = guidance
        self.table = CaptionTable(encoder)
        # Not the whitening's width: few captions have few directions, and a network's sizes must not depend on them.
        self.text_dim = min(MOST, encoder.width)
        self.token_dim = encoder.token_width if attention else 0

    @property
    def sizes(self) -> dict[str, int]:
        """What a generator must be built with to take its words."""
        return {"text_dim": self.text_dim, "token_dim": self.token_dim}

    @torch.no_grad()
    def vectors(self, captions: Told) -> Tensor:
        """Whitened embeddings `[N, text_dim]` of length one; zeros for the null caption."""
        assert self.whitening is not None, "it is fitted or restored first"
        white = self.whitening(captions if isinstance(captions, Tensor) else self.table.pooled(captions))
        return F.pad(white, (0, self.text_dim - white.shape[1]))

    @torch.no_grad()
    def __call__(self, captions: Told, guidance: float = 1.0) -> Words:
        """What a generator takes; None and the empty text are the null caption, which is never exaggerated.

        Args:
            captions: one for each image. Vectors have no tokens.
            guidance: how far words are exaggerated, from 1 (not at all) up.

        Raises:
            UsageError: more guidance than the generator has learned.
        """
        if not 1 <= guidance <= self.guidance:
            learned = f"guidance from 1 to {self.guidance:g}" if self.guidance > 1 else "no guidance (words.guidance)"
            raise UsageError(f"guidance {guidance:g}: this model has learned {learned}")
        pooled = self.vectors(captions)
        # None, not ones: the generator then leaves guidance out, as in a run without it.
        alphas = None if guidance == 1 else torch.where(pooled.any(dim=1), guidance, 1.0)
        if not self.token_dim or isinstance(captions, Tensor):
            return Words(pooled, guidance=alphas)
        encoded = self.table(captions)
        # Few different lengths: a compiled generator is compiled anew for each.
        missing = max(STEP, -(-encoded.tokens.shape[1] // STEP) * STEP) - encoded.tokens.shape[1]
        tokens, mask = F.pad(encoded.tokens, (0, 0, 0, missing)), F.pad(encoded.mask, (0, missing))
        return Words(pooled, tokens, mask, alphas)

    def in_turn(self, captions: Sequence[str | None], guidance: float = 1.0) -> Callable[[int, int], Words]:
        """What gives the words of some pictures, by the number of the first one and their count.

        Args:
            captions: of pictures 0, 1 and so on; after the last one they begin anew.
            guidance: see `__call__`.
        """

        def words_of(first: int, count: int) -> Words:
            return self([captions[number % len(captions)] for number in range(first, first + count)], guidance)

        return words_of

    def save(self, folder: Path) -> None:
        """Write down which encoder it was, and the whitening, beside a generator's weights."""
        assert self.whitening is not None
        on_cpu = {name: part.cpu().contiguous() for name, part in self.whitening.tensors().items()}
        save_file(on_cpu, folder / WHITENING_FILE)
        fingerprints = {"fingerprint": self.encoder.fingerprint, "whitening": self.whitening.fingerprint}
        settings = {"attention": self.attention, "guidance": self.guidance}
        write_json(folder / NOTES_FILE, {"encoder": self.name, **fingerprints, **settings})


def load_reader(model: str | Path, device: torch.device | str = "cpu", encoder: str | None = None) -> Reader:
    """Open what read the captions of a trained generator.

    Args:
        model: a run's folder (its newest snapshot is taken), a snapshot's folder, or a hub id such as `owner/name`.
        device: where the encoder shall compute.
        encoder: a folder or a hub id that has the encoder now; None takes it from where it was in training.

    Raises:
        UsageError: nothing of that name, a folder without a snapshot, or a model that was trained without words.
        DinogenError: a file is missing or broken, files do not fit each other, or the encoder is not there or is
            another one than in training.
    """
    (config,) = locate(model, CONFIG_FILE)
    settings = read_json(config)
    if not isinstance(settings, dict) or not settings.get("text_dim"):
        raise UsageError(f"{model}: this model was trained without words, so that no prompt can steer it")
    notes_file, whitening_file = locate(model, NOTES_FILE, WHITENING_FILE)
    try:
        notes = read_notes(notes_file)
        whitening = Whitening.restore(read_tensors(whitening_file, Whitening.expected(None)))
    except DamagedFile as error:
        raise DinogenError(f"{error}; copy the whole snapshot again") from error
    # Last, as fetching an encoder may take long.
    found = text_encoder_of(encoder or notes["encoder"], notes["fingerprint"], "--encoder").to(device)
    reader = Reader(notes["encoder"], found, notes["attention"], whitening, notes["guidance"])
    sizes = {key: settings.get(key, 0) for key in reader.sizes}
    fits = {len(whitening.mean), len(whitening.directions)} == {found.width} and whitening.width <= reader.text_dim
    if not fits or sizes != reader.sizes or whitening.fingerprint != notes["whitening"]:
        raise DinogenError(
            f"{whitening_file.parent}: {NOTES_FILE}, {WHITENING_FILE} and {CONFIG_FILE} do not fit each other; copy "
            "the whole snapshot again"
        )
    return reader


def read_notes(path: Path) -> dict[str, Any]:
    """What `Reader.save` wrote down.

    Raises:
        DamagedFile: anything else is in the file.
    """
    notes = read_json(path)
    right = isinstance(notes, dict) and all(type(notes.get(key)) is kind for key, kind in NOTES.items())
    if not right or any(len(str(notes[key])) > MOST_LETTERS or not str(notes[key]).isprintable() for key in NOTES):
        raise DamagedFile(f"{path}: not the notes of a text encoder")
    return notes
