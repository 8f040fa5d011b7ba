"""Samples of one split by shard and row, from shards that are checked before they are used."""

import logging
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dinogen.data.check import Verify
from dinogen.data.folder import LocalFolder, RemoteFolder
from dinogen.data.image import decode_image
from dinogen.data.layout import EmbeddingLayout, Layout, PyramidLayout
from dinogen.data.manifest import Manifest, ShardRecord
from dinogen.data.schema import SampleRecord
from dinogen.data.shard import Shard
from dinogen.errors import DinogenError

MAX_BAD_FRACTION = 0.001

log = logging.getLogger(__name__)


@dataclass
class Batch:
    """Samples as they lie in the shards.

    Args:
        keys: N keys.
        pyramid: fp16 tensors `[N, …]` of a stage's `PyramidSpec.stored_shapes()`, or None where not asked for.
        images: uint8 `[n, 3, R, R]`, RGB, of n of the samples, as `spread_evenly` numbers them, or None where not asked
            for.
        captions: N captions, None where a sample has none; one of several, drawn.
        all_captions: all captions of the N samples.
        embeddings: fp16 `[N, D]`, CLIP's of the crops, or None where not asked for.
    """

    keys: list[str]
    pyramid: dict[str, Tensor] | None
    images: Tensor | None
    captions: list[str | None]
    all_captions: list[tuple[str, ...]]
    embeddings: Tensor | None = None

    def pin_memory(self) -> "Batch":
        """Called by the DataLoader, so that copies to a GPU need not wait."""
        if self.pyramid is not None:
            self.pyramid = {name: tensor.pin_memory() for name, tensor in self.pyramid.items()}
        if self.images is not None:
            self.images = self.images.pin_memory()
        if self.embeddings is not None:
            self.embeddings = self.embeddings.pin_memory()
        return self


def spread_evenly(n: int, m: int) -> Tensor:
    """Numbers of n of m samples, `[n]`, as far apart as they can be.

    All ranks together choose the same ones whatever their number, where each has equal shares of both.
    """
    return torch.arange(n) * m // n


@dataclass
class Targets:
    """A sample's rows of a batch, to be filled; None what is not asked for."""

    pyramid: Tensor | None
    embedding: Tensor | None
    image: Tensor | None


class SampleStore:
    """Reads samples of one split; pickles, so that every worker process can have its own.

    A shard is checked when it is first opened: its size always, its sha256 with `verify="sha256"`. Samples that
    cannot be read, and all those of a damaged shard, are named in the log and put in quarantine: a sample of the
    following shard takes the place of each. What was checked and found is shared by all workers of this store.

    Args:
        folder: where the shards lie.
        manifest: the folder's manifest.
        split: the split to read.
        verify: `sha256` reads every shard whole once; `size` trusts its content, for big sets on good storage.
        keep_open: shards kept open at a time.
        max_bad_fraction: share of the split that may be in quarantine.
        embeddings: whether batches hold CLIP's embeddings.

    Raises:
        DinogenError: embeddings are wanted of shards that hold none.
    """

    def __init__(
        self,
        folder: LocalFolder | RemoteFolder,
        manifest: Manifest,
        split: str,
        verify: Verify = "sha256",
        keep_open: int = 128,
        max_bad_fraction: float = MAX_BAD_FRACTION,
        embeddings: bool = False,
    ):
        if embeddings and manifest.embedder is None:
            raise DinogenError(f"{folder}: holds no embeddings of the crops; pack the crops again with pack --clip")
        self.folder = folder
        self.shards = manifest.shards_of(split)
        self.layout = PyramidLayout(manifest.specs)
        self.embedding_layout = EmbeddingLayout(manifest.embedder.width) if embeddings and manifest.embedder else None
        self.crop_size = manifest.crop_size
        self.verify: Verify = verify
        self.keep_open = keep_open
        self.max_bad_fraction = max_bad_fraction
        self._starts = np.concatenate([[0], np.cumsum(self.counts)])
        self._verified = torch.zeros(len(self.shards), dtype=torch.bool).share_memory_()
        self._bad = torch.zeros(len(self), dtype=torch.bool).share_memory_()
        self._open: OrderedDict[int, Shard] = OrderedDict()

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_open": OrderedDict()}

    def __len__(self) -> int:
        """Number of samples of the split."""
        return int(self._starts[-1])

    @property
    def counts(self) -> list[int]:
        """Number of samples of each shard."""
        return [shard.samples for shard in self.shards]

    @property
    def quarantined(self) -> int:
        """Number of samples in quarantine."""
        return int(self._bad.sum())

    def read(
        self,
        places: np.ndarray,
        image_resolution: int | None,
        stage: int | None,
        images_of: int | None = None,
        seed: int = 0,
    ) -> Batch:
        """Read samples.

        Args:
            places: int `[N, 3]`: shard number, row, and epoch, which decides with the seed and the sample's key which
                of its captions is drawn. In `[N, 2]` the epoch is 0.
            image_resolution: side R of the images, a divisor of `crop_size`; None leaves them undecoded.
            stage: resolution of the stage whose pyramids to read; None reads none.
            images_of: n, how many of the samples' images to decode; None decodes all.
            seed: see `places`.

        Raises:
            DinogenError: too much is damaged; names what was met last.
        """
        count, side = len(places), image_resolution
        rows = None if stage is None else torch.empty(count, self.layout.stage_size(stage), dtype=torch.uint8)
        told = self.embedding_layout
        files = None if told is None else torch.empty(count, told.size, dtype=torch.uint8)
        decoded = {} if side is None else dict.fromkeys(spread_evenly(images_of or count, count).tolist())
        images = None if side is None else torch.empty(len(decoded), 3, side, side, dtype=torch.uint8)
        if images is not None:
            decoded = dict(zip(decoded, images))
        found = [
            self._read_good(number, row, stage, Targets(row_of(rows, i), row_of(files, i), decoded.get(i)))
            for i, (number, row) in enumerate(places[:, :2].tolist())
        ]
        epochs = places[:, 2].tolist() if places.shape[1] > 2 else [0] * count
        keys = [key for key, _ in found]
        captions = [record.draw_caption(seed, epoch, key) for (key, record), epoch in zip(found, epochs)]
        pyramid = None if rows is None or stage is None else self.layout.split_stage(rows, stage)
        embeddings = None if files is None or told is None else told.split(files)["embedding"]
        return Batch(keys, pyramid, images, captions, [record.captions for _, record in found], embeddings)

    def _read_good(self, number: int, row: int, stage: int | None, into: Targets) -> tuple[str, SampleRecord]:
        """Read a sample, or else one that stands in for it, into its rows of the batch; its key and record."""
        for candidate, its_row in self._from(number, row):
            try:
                shard = self.shard(candidate)
            except DinogenError as error:
                self._quarantine(candidate, slice(None), error)
                continue
            try:
                return self._read_one(shard, its_row, stage, into)
            except DinogenError as error:
                self._quarantine(candidate, slice(its_row, its_row + 1), error)
        raise DinogenError(f"{self.folder}: not one good sample is left")

    def _read_one(self, shard: Shard, row: int, stage: int | None, into: Targets) -> tuple[str, SampleRecord]:
        key, image = shard.keys[row], into.image
        try:
            record = SampleRecord.from_bytes(shard.read(row, "record"))
            if into.pyramid is not None and stage is not None:
                read_into(shard, row, "pyramid", self.layout, into.pyramid, self.layout.stage_spans[stage])
            if into.embedding is not None and self.embedding_layout is not None:
                layout = self.embedding_layout
                read_into(shard, row, "embedding", layout, into.embedding, (0, layout.size))
            if image is not None:
                pixels = decode_image(shard.read(row, "image"), image.shape[-1], self.crop_size)
                image.copy_(pixels.flip(-1) if record.mirrored else pixels)
        except DinogenError as error:
            raise DinogenError(f"{shard.path}: sample {key} {error}") from error
        return key, record

    def _from(self, number: int, row: int) -> Iterator[tuple[int, int]]:
        """The place itself, then those that stand in for it, without what is in quarantine.

        A step is as long as a shard and one sample more: so each sample of a lost shard has a stand-in of its own,
        and so have they if there is but one shard.
        """
        first, step = int(self._starts[number]) + row, self.shards[number].samples + 1
        for i in range(len(self)):
            index = (first + i * step) % len(self)
            if not self._bad[index]:
                number = int(np.searchsorted(self._starts, index, side="right")) - 1
                yield number, index - int(self._starts[number])

    def _quarantine(self, number: int, rows: slice, error: DinogenError) -> None:
        self._bad[self._starts[number] : self._starts[number + 1]][rows] = True
        bad = self.quarantined
        if bad > self.max_bad_fraction * len(self):
            limit = f"more than max_bad_fraction {self.max_bad_fraction}"
            raise DinogenError(f"{error} ({bad} of {len(self)} samples cannot be used, {limit})") from error
        log.warning("%s (left out; %d of %d samples so far)", error, bad, len(self))

    def shard(self, number: int) -> Shard:
        """An open shard, checked."""
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        record = self.shards[number]
        path = self.folder.fetch(record, None if self._verified[number] else self.verify)
        shard = open_shard(path, record)
        self._verified[number] = True
        self._open[number] = shard
        if len(self._open) > self.keep_open:
            self._open.popitem(last=False)[1].close()
        return shard


def open_shard(path: Path, record: ShardRecord) -> Shard:
    """Open a shard and compare its number of samples with the manifest."""
    shard = Shard(path)
    if len(shard) != record.samples:
        shard.close()
        raise DinogenError(f"{path}: holds {len(shard)} samples instead of {record.samples}; pack the crops again")
    return shard


def row_of(rows: Tensor | None, i: int) -> Tensor | None:
    """A row, where there are rows."""
    return None if rows is None else rows[i]


def read_into(shard: Shard, row: int, part: str, layout: Layout, target: Tensor, span: tuple[int, int]) -> None:
    """Read a span of the bytes of a sample's `pyramid` or `embedding` straight into a row of a batch, uint8.

    Raises:
        DinogenError: the file is not there, or not of this layout.
    """
    start, stop = span
    view = target.numpy().data
    if shard.size(row, part) == layout.size:
        header = bytearray(len(layout.header))
        shard.read_into(row, part, memoryview(header))
        if header == layout.header:
            return shard.read_into(row, part, view, skip=start)
    view[:] = layout.normalise(shard.read(row, part))[start:stop]
