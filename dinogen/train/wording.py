"""Words in training: which captions images are drawn with, and what of it a run keeps."""

from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from dinogen.config import RunConfig
from dinogen.data.loader import load_captions
from dinogen.distributed import from_first_rank, rank, world_size
from dinogen.errors import DinogenError
from dinogen.kept import Kept
from dinogen.networks.words import Words
from dinogen.objectives.captions import Captions
from dinogen.reader import Reader
from dinogen.tensor_files import Shapes
from dinogen.text import Whitening, make_text_encoder

MOST_CAPTIONS = 2**16  # of the data set: from as many generated images' captions are drawn
FREQUENT = 256  # captions among which the ones for people are chosen
SAME = 1e-3  # distance of vectors whose captions say the same


class Wording(Kept):
    """The data set's captions, and the frozen reader of them. It keeps the whitening, and which encoder it is of.

    Args:
        config: of the run, with `words`.
        rng: of the run, equal on all ranks.
        device: where the encoder computes.

    Raises:
        DinogenError: no such encoder, or no captions. Call on all ranks.
    """

    file = "words"

    def __init__(self, config: RunConfig, rng: torch.Generator, device: torch.device):
        assert config.words is not None
        self.settings, self.rng, self.device = config.words, rng, device
        # In the loader's random order.
        self.captions: list[str | None] = from_first_rank(lambda: captions_of(config.data), device)
        encoder = make_text_encoder(config.words.encoder, "--words.encoder").to(device)
        self.reader = Reader(
            config.words.encoder, encoder, config.words.attention, guidance=float(config.words.guidance)
        )

    def fit(self) -> None:
        """Fit the whitening to the data set's captions, unless a checkpoint had it. Call on all ranks."""
        if self.reader.whitening is None:
            tensors = from_first_rank(
                lambda: Whitening.fit(self.reader.table.pooled(self.captions)).tensors(), self.device
            )
            self.reader.whitening = Whitening.restore(tensors)

    def of_step(self, real: Sequence[str | None], batch_size: int) -> tuple[Words, Captions]:
        """What this rank's images are drawn with, independently of its reals, and all that the objective compares.

        Args:
            real: captions of this rank's reals.
            batch_size: of the generated images of all ranks.
        """
        # All ranks draw those of the whole batch and keep their share, as with latents.
        picks = torch.randint(len(self.captions), (batch_size,), generator=self.rng)
        share = picks.chunk(world_size())[rank()].tolist()
        words = self.reader(self.dropped([self.captions[pick] for pick in share]), self.drawn_guidance())
        return words, Captions(words.pooled, self.reader.vectors(self.dropped(real)), words.guidance)

    def drawn_guidance(self) -> float:
        """That of a step: in half of them anything up to the most that is learned."""
        most = self.settings.guidance
        if most == 1:
            return 1.0
        guided, share = torch.rand(2, generator=self.rng).tolist()
        return 1 + (most - 1) * share if guided < 0.5 else 1.0

    def of_reals(self, real: Sequence[str | None]) -> Words:
        """What images are drawn with that are to be like this rank's reals, each like its own one."""
        return self.reader(self.dropped(real))

    def dropped(self, captions: Sequence[str | None]) -> list[str | None]:
        """This rank's captions, some of them replaced by the null caption."""
        chances = torch.rand(len(captions) * world_size(), generator=self.rng).chunk(world_size())[rank()].tolist()
        return [caption if chance >= self.settings.drop else None for caption, chance in zip(captions, chances)]

    def shown(self, first: int, count: int) -> Words:
        """Words of pictures `first` to `first + count - 1` for people and judges: the same ones each time."""
        return self.reader.in_turn(self.captions)(first, count)

    def prompts(self, count: int) -> list[str]:
        """Captions for people to look at: of the most frequent ones those that differ most, the same ones each time.

        The first is the most frequent one, and each other is the one farthest from all before it. Fewer where the data
        set has fewer different ones.
        """
        frequent = [caption for caption, _ in Counter(filter(None, self.captions)).most_common(FREQUENT)]
        vectors = self.reader.vectors(frequent)
        chosen, nearest = [0], torch.cdist(vectors, vectors[:1])[:, 0]
        while len(chosen) < count and nearest.max() > SAME:
            chosen.append(int(nearest.argmax()))
            nearest = nearest.minimum(torch.cdist(vectors, vectors[chosen[-1:]])[:, 0])
        return [frequent[number] for number in chosen]

    def tensors(self) -> dict[str, Tensor]:
        assert self.reader.whitening is not None
        return self.reader.whitening.tensors() | {"encoder": bytes_of(self.reader.encoder.fingerprint)}

    def expected(self) -> Shapes:
        # Of any width, so that another encoder is refused by its fingerprint.
        return dict(Whitening.expected(None)) | {"encoder": ((None,), torch.uint8)}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        before, now = bytes(tensors["encoder"].tolist()).decode("ascii", "replace"), self.reader.encoder.fingerprint
        if before != now:
            raise DinogenError(
                f"words.encoder {self.settings.encoder} ({now}) is not the one that this run was started with "
                f"({before}); give that one, or another --output to start anew"
            )
        self.reader.whitening = Whitening.restore(tensors)


def captions_of(data: str) -> list[str | None]:
    """One caption of each sample of the training split, or of many random ones; None where it has none.

    Raises:
        DinogenError: no sample has one.
    """
    # Checking whole shards would take minutes on big data; the loader does check what it reads.
    captions = load_captions(data, MOST_CAPTIONS, verify="size")
    if not any(captions):
        raise DinogenError(f"{data}: no sample has a caption; pack the crops again with pack --captions, or drop words")
    return captions


def bytes_of(text: str) -> Tensor:
    """ASCII text as uint8 `[n]`."""
    return torch.tensor(list(text.encode("ascii")), dtype=torch.uint8)


def make_wording(config: RunConfig, rng: torch.Generator, device: torch.device) -> Wording | None:
    """What `words:` asks for."""
    return None if config.words is None else Wording(config, rng, device)
