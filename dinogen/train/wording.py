"""Words in training: what images are drawn with, captions or CLIP's embeddings, and what of it a run keeps."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dinogen.config import RunConfig
from dinogen.data.folder import open_folder
from dinogen.data.loader import Batch, load_all_captions, load_captions, load_embeddings, load_pyramids
from dinogen.distributed import from_first_rank, gather_objects, rank, share_of, world_size
from dinogen.errors import DinogenError
from dinogen.kept import Kept
from dinogen.networks.words import Words
from dinogen.objectives.captions import Captions, expectations
from dinogen.pyramid import PyramidSpec, complete
from dinogen.reader import Reader, Told
from dinogen.tensor_files import Shapes
from dinogen.text import Whitening, make_text_encoder
from dinogen.train.run_log import LOG

MOST_TOLD = 2**16  # of the data set's captions or embeddings: from these generated images' are drawn
FREQUENT = 256  # captions among which the ones for people are chosen
SAME = 1e-3  # distance of vectors whose captions say the same
MOST_CODED = 2**12  # images from which it is found what captions tell
MOST_SHOWN = 2**11  # images on which it is found where captions show
SHOWN_BYTES = 2**30  # of their stored pyramids, at most
NOISES = 4  # of each embedding, where it is found where they show
NOISE = 0.75 / 0.25  # its length, in units of an embedding's (LAFITE, arXiv 2111.13792)


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
    has_tokens = True

    def __init__(self, config: RunConfig, rng: torch.Generator, device: torch.device):
        assert config.words is not None
        self.settings, self.rng, self.device = config.words, rng, device
        self.data = config.data
        self.load(config.data)
        encoder = make_text_encoder(config.words.encoder, "--words.encoder").to(device)
        attention, guidance = config.words.attention and self.has_tokens, float(config.words.guidance)
        self.reader = Reader(config.words.encoder, encoder, attention, guidance=guidance)

    def load(self, data: str) -> None:
        """Read the data set's captions, in the loader's random order."""
        self.captions: list[str | None] = from_first_rank(lambda: captions_of(data), self.device)

    def fit(self, show: Callable[[int], Tensor]) -> None:
        """Fit the whitening to the data set, unless a checkpoint had it. Call on all ranks.

        Args:
            show: tells what the first samples show, as many as it is given or fewer, `[n, S]`; see `Whitening.fit`.
        """
        if self.reader.whitening is None:
            self.read_together(MOST_CODED)
            tensors = from_first_rank(lambda: self.fitted(show).tensors(), self.device)
            self.reader.whitening = Whitening.restore(tensors)

    def fitted(self, show: Callable[[int], Tensor]) -> Whitening:
        """A whitening of the data set's captions, all of those that a sample has."""
        shown = show(self.count)
        captions, image_of = self.all_told(len(shown))
        assert not isinstance(captions, Tensor)
        return Whitening.fit(self.reader.table.pooled(captions), shown=shown[image_of])

    def read_together(self, count: int) -> None:
        """Read all captions of the first samples, at most `count`: each rank its share, as reading takes long."""
        count = min(count, self.count)
        captions = from_first_rank(lambda: load_all_captions(self.data, count, verify="size"), self.device)
        different = sorted({caption for its in captions for caption in its})
        if len(self.reader.table) < len(different):
            LOG.info("Reading the captions, to find what of them shows in the images.")
        for found in gather_objects(self.reader.table.vectors_of(different[share_of(len(different))])):
            self.reader.table.learn(*found)

    def all_told(self, count: int) -> tuple[Told, Tensor]:
        """All that the first samples, at most `count`, are known by, and the number of the sample of each, `[c]`."""
        return in_a_row(load_all_captions(self.data, count, verify="size"))

    def expectations(self, spec: PyramidSpec, resolution: int) -> dict[str, Tensor]:
        """What captions lead one to expect of the maps of a stage, see `objectives.captions`. Call on all ranks.

        Args:
            spec: of the stage's pyramids.
            resolution: the stage's.
        """

        self.read_together(MOST_SHOWN)

        def found() -> dict[str, Tensor]:
            LOG.info(f"Finding where in images of {resolution} pixels captions show.")
            size = sum(2 * math.prod(shape) for shape in spec.stored_shapes().values())
            stored = load_pyramids(self.data, min(self.count, MOST_SHOWN, max(1, SHOWN_BYTES // size)), resolution)
            pyramid = complete(stored, spec)
            told, image_of = self.all_told(len(pyramid["cls"]))
            return expectations(pyramid, self.reader.vectors(told).cpu(), image_of)

        return {name: part.to(self.device) for name, part in from_first_rank(found, self.device).items()}

    @property
    def count(self) -> int:
        """From how many samples' captions those of generated images are drawn."""
        return len(self.captions)

    def told_by(self, batch: Batch) -> Told:
        """What this rank's reals are known by."""
        return batch.captions

    def picked(self, picks: Tensor) -> Told:
        """What samples of these numbers are known by, int64 `[n]`; the same count on all ranks."""
        return [self.captions[pick] for pick in picks.tolist()]

    def fixed(self, numbers: Iterable[int]) -> Told:
        """What samples of these numbers are known by, counted around: the same each time."""
        return [self.captions[number % self.count] for number in numbers]

    def of_step(self, real: Told, batch_size: int) -> tuple[Words, Captions]:
        """What this rank's images are drawn with, independently of its reals, and all that the objective compares.

        Args:
            real: see `told_by`.
            batch_size: of the generated images of all ranks.
        """
        # All ranks draw those of the whole batch and keep their share, as with latents.
        picks = torch.randint(self.count, (batch_size,), generator=self.rng)
        drawn = self.picked(picks.chunk(world_size())[rank()])
        words = self.reader(self.dropped(drawn), self.drawn_guidance())
        return words, Captions(words.pooled, self.reader.vectors(self.dropped(real)), words.guidance)

    def drawn_guidance(self) -> float:
        """That of a step: in half of them anything up to the most that is learned."""
        most = self.settings.guidance
        if most == 1:
            return 1.0
        guided, share = torch.rand(2, generator=self.rng).tolist()
        return 1 + (most - 1) * share if guided < 0.5 else 1.0

    def of_reals(self, real: Told) -> Words:
        """What images are drawn with that are to be like this rank's reals, each like its own one."""
        return self.reader(self.dropped(real))

    def dropped(self, told: Told) -> Told:
        """This rank's captions, some of them replaced by the null caption."""
        chances = torch.rand(len(told) * world_size(), generator=self.rng).chunk(world_size())[rank()].tolist()
        kept = [chance >= self.settings.drop for chance in chances]
        if isinstance(told, Tensor):
            return told * told.new_tensor(kept)[:, None]
        return [caption if keep else None for caption, keep in zip(told, kept)]

    def shown(self, first: int, count: int) -> Words:
        """Words of pictures `first` to `first + count - 1` for people and judges: the same ones each time."""
        return self.reader(self.fixed(range(first, first + count)))

    def wholes(self, batch: Batch) -> Tensor:
        """What all captions of each of this rank's reals say together, `[n, text_dim]`: the mean of their vectors.

        Zeros for one without captions.
        """
        return self.mean_vectors(batch.all_captions)

    def first_wholes(self, count: int) -> Tensor:
        """The same of the first samples, at most `count`, in the loader's random order."""
        return self.mean_vectors(load_all_captions(self.data, min(count, self.count), verify="size"))

    def mean_vectors(self, captions: Sequence[Sequence[str]]) -> Tensor:
        """The mean vector of each sample's captions."""
        told, image_of = in_a_row(captions)
        vectors = self.reader.vectors(told)
        sums = vectors.new_zeros(len(captions), vectors.shape[1]).index_add_(0, image_of.to(vectors.device), vectors)
        return sums / vectors.new_tensor([max(1, len(its)) for its in captions])[:, None]

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


class ImageWording(Wording):
    """CLIP's embeddings of the images take the place of captions that nobody wrote.

    An embedding e with noise in a random direction u, (0.25 e + 0.75 u) / |0.25 e + 0.75 u|, may as well be that of a
    caption (LAFITE, arXiv 2111.13792). The noise is drawn anew each time; a caption gets none. Vectors are scaled until
    their share of e has length one, as a caption has. The whitening leaves out directions in which there is noise
    alone. Among them is the one in which all captions differ from all images.
    """

    has_tokens = False

    def __init__(self, config: RunConfig, rng: torch.Generator, device: torch.device):
        super().__init__(config, rng, device)
        if self.embedder.text_fingerprint != self.reader.encoder.fingerprint:
            raise DinogenError(
                f"words.encoder {self.settings.encoder} is not the CLIP whose embeddings {config.data} holds; give "
                f"that one ({self.embedder.name}), or pack the crops again with pack --clip {self.settings.encoder}"
            )
        if self.settings.attention:
            LOG.info("words.attention is off: embeddings of images have no tokens to look at.")

    def load(self, data: str) -> None:
        manifest = open_folder(data).manifest()
        if manifest.embedder is None:
            raise DinogenError(
                f"{data}: holds no embeddings of the crops; pack the crops again with pack --clip, or take "
                "words.source captions"
            )
        self.embedder = manifest.embedder
        self.captions = []
        embeddings = from_first_rank(lambda: load_embeddings(data, MOST_TOLD, verify="size"), self.device)
        self.embeddings: Tensor = embeddings.to(self.device)  # fp16 `[n, D]`

    def fitted(self, show: Callable[[int], Tensor]) -> Whitening:
        return Whitening.fit(self.embeddings.float(), noise=NOISE**2 / self.embedder.width)

    @property
    def count(self) -> int:
        return len(self.embeddings)

    def told_by(self, batch: Batch) -> Tensor:
        assert batch.embeddings is not None, "the loader reads them for such a run"
        return self.noisy(batch.embeddings.to(self.device, non_blocking=True))

    def read_together(self, count: int) -> None:
        """Nothing: there are no captions."""

    def all_told(self, count: int) -> tuple[Tensor, Tensor]:
        numbers = torch.arange(min(count, self.count)).repeat(NOISES)
        noise = torch.randn(len(numbers), self.embedder.width, generator=torch.Generator().manual_seed(0))
        return with_noise(self.embeddings[numbers.to(self.device)], noise.to(self.device)), numbers

    def wholes(self, batch: Batch) -> Tensor:
        assert batch.embeddings is not None, "the loader reads them for such a run"
        return self.reader.vectors(batch.embeddings.to(self.device).float())

    def first_wholes(self, count: int) -> Tensor:
        return self.reader.vectors(self.embeddings[:count].float())

    def picked(self, picks: Tensor) -> Tensor:
        return self.noisy(self.embeddings[picks.to(self.device)])

    def prompts(self, count: int) -> list[str]:
        return []  # nobody captioned the pictures

    def noisy(self, embeddings: Tensor) -> Tensor:
        """With noise of the run's random numbers: all ranks draw that of the whole batch and keep their share."""
        noise = torch.randn(len(embeddings) * world_size(), self.embedder.width, generator=self.rng)
        return with_noise(embeddings, noise.chunk(world_size())[rank()].to(self.device))

    def fixed(self, numbers: Iterable[int]) -> Tensor:
        numbers = list(numbers)
        noise = [torch.randn(self.embedder.width, generator=torch.Generator().manual_seed(n)) for n in numbers]
        rows = torch.tensor(numbers, device=self.device) % self.count
        return with_noise(self.embeddings[rows], torch.stack(noise).to(self.device))


def with_noise(embeddings: Tensor, noise: Tensor) -> Tensor:
    """Embeddings of length one and their noise, of any length, as float32 `[N, D]` of length √(1 + NOISE²)."""
    mixed = embeddings.float() + NOISE * F.normalize(noise, dim=1)
    return math.hypot(1, NOISE) * F.normalize(mixed, dim=1)


def captions_of(data: str) -> list[str | None]:
    """One caption of each sample of the training split, or of many random ones; None where it has none.

    Raises:
        DinogenError: no sample has one.
    """
    # Checking whole shards would take minutes on big data; the loader does check what it reads.
    captions = load_captions(data, MOST_TOLD, verify="size")
    if not any(captions):
        raise DinogenError(
            f"{data}: no sample has a caption; pack the crops again with pack --captions, or with pack --clip for "
            "words.source images, or drop words"
        )
    return captions


def in_a_row(captions: Sequence[Sequence[str]]) -> tuple[list[str], Tensor]:
    """All captions of some samples, and the number of the sample of each, int64 `[c]`."""
    image_of = torch.tensor([row for row, its in enumerate(captions) for _ in its], dtype=torch.int64)
    return [caption for its in captions for caption in its], image_of


def bytes_of(text: str) -> Tensor:
    """ASCII text as uint8 `[n]`."""
    return torch.tensor(list(text.encode("ascii")), dtype=torch.uint8)


def make_wording(config: RunConfig, rng: torch.Generator, device: torch.device) -> Wording | None:
    """What `words:` asks for."""
    if config.words is None:
        return None
    return (ImageWording if config.words.source == "images" else Wording)(config, rng, device)
