"""Batches for the trainer: the same ones for any number of ranks and workers, resumable anywhere."""

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dinogen.data.ahead import in_thread, read_ahead
from dinogen.data.check import Verify
from dinogen.data.folder import open_folder
from dinogen.data.image import check_resolution
from dinogen.data.order import LoaderState, SampleOrder
from dinogen.data.schema import CROP_SIZE, DEFAULT_SPLIT
from dinogen.data.store import MAX_BAD_FRACTION, Batch, SampleStore
from dinogen.errors import DinogenError, UsageError

__all__ = [
    "Batch",
    "LoaderState",
    "ShardLoader",
    "load_all_captions",
    "load_captioned_crops",
    "load_captions",
    "load_crops",
    "load_embeddings",
    "load_pyramids",
]

WINDOW_SHARDS = 64  # 64,000 samples of usual shards are shuffled together
BATCHES_AHEAD = 4


class ShardLoader:
    """Reads shuffled batches of one split, without end.

    Global batch number b is the same whatever the number of ranks and workers; a rank reads a contiguous part of
    it. Every sample comes once an epoch; a batch may reach over the end of an epoch.

    Args:
        data: folder of shards with its manifest, or its address (s3://…, hf://…, https://…).
        seed: decides the order, together with the epoch, and which of a sample's captions is drawn.
        rank: number of this process.
        world_size: number of processes.
        split: the split to read.
        workers: processes that read and decode ahead, where there is nothing to decode one thread; 0 reads when asked.
        state: where to resume.
        verify: `sha256` reads every shard whole when it is first opened; `size` trusts its content.
        window_shards: shards whose samples are shuffled together.
        max_bad_fraction: share of the split that may turn out damaged before reading is given up.
        embeddings: whether batches hold CLIP's embeddings.

    Raises:
        DinogenError: no manifest, no samples of this split, or no embeddings where they are wanted.
    """

    def __init__(
        self,
        data: Path | str,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        split: str = DEFAULT_SPLIT,
        workers: int = 0,
        state: LoaderState = LoaderState(),
        verify: Verify = "sha256",
        window_shards: int = WINDOW_SHARDS,
        max_bad_fraction: float = MAX_BAD_FRACTION,
        embeddings: bool = False,
    ):
        self.data = open_folder(data)
        manifest = self.data.manifest()
        self.state = state
        self._rank, self._world_size = rank, world_size
        self._workers = workers
        self._seed = seed
        self._store = SampleStore(self.data, manifest, split, verify, 2 * window_shards, max_bad_fraction, embeddings)
        self._order = SampleOrder(self._store.counts, seed, window_shards)

    def __len__(self) -> int:
        """Number of samples of the split."""
        return len(self._order)

    @property
    def quarantined(self) -> int:
        """Number of samples that this rank found damaged and left out; the log names them."""
        return self._store.quarantined

    def batches(
        self, batch_size: int, image_resolution: int | None, stage: int | None, images_of: int | None = None
    ) -> Iterator[Batch]:
        """Yield this rank's part of every global batch from `state` on, without end.

        `state` counts what has been yielded, not what workers have read ahead. To resume with another batch
        size or resolution, close the iterator or drop it, and call again.

        Args:
            batch_size: of the global batch, all ranks together.
            image_resolution: side R of the images, a divisor of the crops'; None leaves them undecoded.
            stage: resolution of the stage whose pyramids to read; None reads none.
            images_of: of how many samples of the global batch to decode the images, evenly spread; None decodes all.

        Raises:
            UsageError: the batch cannot be split among the ranks, or R does not divide the crops'.
            DinogenError: fewer samples than a batch, or more damage than `max_bad_fraction` allows; names it.
        """
        self._check_batch_size(batch_size)
        check_resolution(image_resolution, self._store.crop_size)
        return self._iterate(batch_size, image_resolution, stage, images_of)

    def _iterate(
        self, batch_size: int, image_resolution: int | None, stage: int | None, images_of: int | None
    ) -> Iterator[Batch]:
        share = batch_size // self._world_size
        part = slice(self._rank * share, (self._rank + 1) * share)
        images = None if images_of is None else images_of // self._world_size
        read = partial(
            self._store.read, image_resolution=image_resolution, stage=stage, images_of=images, seed=self._seed
        )
        places = (batch[part] for batch in self._places(batch_size))
        # With nothing to decode, a process takes longer to hand a batch over than a thread to read it.
        processes = 0 if image_resolution is None else self._workers
        batches = read_ahead(read, places, processes, pin_memory=torch.cuda.is_available())
        if self._workers and not processes:
            batches = in_thread(batches, BATCHES_AHEAD)
        with closing(batches):
            for batch in batches:
                self.state = self.state.after(batch_size, len(self))
                yield batch

    def _places(self, batch_size: int) -> Iterator[np.ndarray]:
        """Global batches from `state` on: shard number, row and epoch of each sample, int64 `[batch_size, 3]`."""
        state = self.state
        for batch in self._order.batches(state, batch_size):
            epochs = state.epoch + (state.position + np.arange(batch_size)) // len(self)
            yield np.column_stack([batch, epochs])
            state = state.after(batch_size, len(self))

    def _check_batch_size(self, batch_size: int) -> None:
        ranks = self._world_size
        if batch_size < 1 or batch_size % ranks:
            nearest = max(1, round(batch_size / ranks)) * ranks
            raise UsageError(f"a batch of {batch_size} cannot be split evenly among {ranks} ranks; take {nearest}")
        if batch_size > len(self):
            raise DinogenError(
                f"{self.data}: {len(self)} samples are too few for a batch of {batch_size}; pack more crops or make "
                f"the batch smaller"
            )


def load_crops(
    data: Path | str,
    count: int,
    resolution: int = CROP_SIZE,
    *,
    split: str = DEFAULT_SPLIT,
    seed: int = 0,
    verify: Verify = "sha256",
) -> Tensor:
    """Random crops of a split, each at most once, for previews and evaluation.

    Args:
        data: folder of shards with its manifest, or its address.
        count: how many; fewer come back where the split has fewer.
        resolution: side R, a divisor of the crops'.
        seed: decides which; a smaller count gives the first ones of a bigger count.

    Returns:
        uint8 `[count, 3, R, R]`, RGB.

    Raises:
        UsageError: R does not divide the crops'.
        DinogenError: no manifest, no samples of this split, or too much damage.
    """
    return load_captioned_crops(data, count, resolution, split=split, seed=seed, verify=verify)[0]


def load_captioned_crops(
    data: Path | str,
    count: int,
    resolution: int = CROP_SIZE,
    *,
    split: str = DEFAULT_SPLIT,
    seed: int = 0,
    verify: Verify = "sha256",
) -> tuple[Tensor, list[tuple[str, ...]]]:
    """`load_crops` with all captions of each of them, none for a crop without any."""
    batch = read_some(data, count, resolution, None, split, seed, verify)
    assert batch.images is not None  # they were asked for
    return batch.images, batch.all_captions


def load_captions(
    data: Path | str, count: int, *, split: str = DEFAULT_SPLIT, seed: int = 0, verify: Verify = "sha256"
) -> list[str | None]:
    """Captions of random samples of a split, each sample at most once and with one caption, drawn from its own.

    Args:
        data: folder of shards with its manifest, or its address.
        count: how many; fewer come back where the split has fewer.

    Returns:
        `count` captions, None for a sample without one.

    Raises:
        DinogenError: no manifest, no samples of this split, or too much damage.
    """
    return read_some(data, count, None, None, split, seed, verify).captions


def load_all_captions(
    data: Path | str, count: int, *, split: str = DEFAULT_SPLIT, seed: int = 0, verify: Verify = "sha256"
) -> list[tuple[str, ...]]:
    """`load_captions` with all captions of each sample, none for one without any."""
    return read_some(data, count, None, None, split, seed, verify).all_captions


def load_embeddings(
    data: Path | str, count: int, *, split: str = DEFAULT_SPLIT, seed: int = 0, verify: Verify = "sha256"
) -> Tensor:
    """CLIP's embeddings of random samples of a split, each at most once: the samples of `load_captions`.

    Args:
        data: folder of shards with its manifest, or its address.
        count: how many; fewer come back where the split has fewer.

    Returns:
        fp16 `[count, D]`, each of length one.

    Raises:
        DinogenError: no manifest, no samples of this split, no embeddings, or too much damage.
    """
    embeddings = read_some(data, count, None, None, split, seed, verify, embeddings=True).embeddings
    assert embeddings is not None  # they were asked for
    return embeddings


def load_pyramids(
    data: Path | str, count: int, stage: int, *, split: str = DEFAULT_SPLIT, seed: int = 0, verify: Verify = "sha256"
) -> dict[str, Tensor]:
    """Stored pyramids of random samples of a split, each at most once.

    Args:
        data: folder of shards with its manifest, or its address.
        count: how many; fewer come back where the split has fewer.
        stage: resolution of the stage.

    Returns:
        fp16 tensors `[count, …]` of the stage's `PyramidSpec.stored_shapes()`.

    Raises:
        DinogenError: no manifest, no samples of this split, or too much damage.
    """
    pyramid = read_some(data, count, None, stage, split, seed, verify).pyramid
    assert pyramid is not None  # they were asked for
    return pyramid


def read_some(
    data: Path | str,
    count: int,
    resolution: int | None,
    stage: int | None,
    split: str,
    seed: int,
    verify: Verify,
    embeddings: bool = False,
) -> Batch:
    """Random samples of a split, at most as many as it has; the first of a larger count are those of a smaller one."""
    folder = open_folder(data)
    store = SampleStore(folder, folder.manifest(), split, verify, embeddings=embeddings)
    check_resolution(resolution, store.crop_size)
    order = SampleOrder(store.counts, seed, WINDOW_SHARDS)
    return store.read(next(order.batches(LoaderState(), min(count, len(order)))), resolution, stage, seed=seed)
