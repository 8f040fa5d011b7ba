"""Long proofs of how the data side grows: with workers, with samples, with epochs. They print what they measure."""

import os
import statistics
import time
from contextlib import closing
from itertools import islice
from pathlib import Path

import psutil
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from dinogen.data.loader import ShardLoader
from helpers.crop_folder import make_crops
from shards.crop import crop_folder
from shards.pack import pack_folder
from shards.synth import synth_folder

pytestmark = pytest.mark.slow


def test_two_workers_crop_nearly_twice_as_fast_as_one(tmp_path: Path, capsys):
    """Prints the ratio of their times, medians of five turns each; the design wants 1.7 on a quiet machine."""
    photos = tmp_path / "photos"
    synth_folder(photos, 300)
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for turn in range(5):
        for workers, taken in seconds.items():
            began = time.perf_counter()
            crop_folder(photos, tmp_path / f"{turn}-{workers}", workers=workers)
            taken.append(time.perf_counter() - began)
    one, two = (statistics.median(taken) for taken in seconds.values())
    with capsys.disabled():
        print(f"\n1 worker {one:.1f} s, 2 workers {two:.1f} s, ratio {one / two:.2f}", seconds)
    assert len(os.listdir(tmp_path / "0-1")) == len(os.listdir(tmp_path / "0-2"))


class FileEach(Dataset):
    """The naive way: a `.pt` file a picture, its pyramid in it."""

    def __init__(self, folder: Path):
        self.paths = sorted(folder.glob("*.pt"))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return torch.load(self.paths[index])


def test_shards_are_read_several_times_as_fast_as_a_file_a_picture(tmp_path: Path, capsys):
    """Prints the ratio of their samples per second, medians of five turns each, with the same pyramids and workers; the
    design wants 5. Each turn opens the shards anew, so their sha256 is in it."""
    make_crops(tmp_path / "crops", 2_000)
    pack_folder(tmp_path / "crops", tmp_path / "shards")
    (tmp_path / "files").mkdir()
    for batch in islice(ShardLoader(tmp_path / "shards", seed=0).batches(100, None, 32), 20):
        for row, key in enumerate(batch.keys):
            sample = {name: maps[row].clone() for name, maps in batch.pyramid.items()}
            torch.save(sample, tmp_path / "files" / f"{key}.pt")

    def by_shards() -> int:
        batches = ShardLoader(tmp_path / "shards", seed=0, workers=1).batches(50, None, 32)
        with closing(batches):
            return sum(len(batch.pyramid["cls"]) for batch in islice(batches, 40))

    def by_files() -> int:
        loader = DataLoader(FileEach(tmp_path / "files"), batch_size=50, shuffle=True, num_workers=1)
        return sum(len(batch["cls"]) for batch in loader)

    rates: dict[str, list[float]] = {"shards": [], "files": []}
    for _ in range(5):
        for name, read in (("shards", by_shards), ("files", by_files)):
            began = time.perf_counter()
            assert read() == 2_000
            rates[name].append(round(2_000 / (time.perf_counter() - began)))
    shards, files = (statistics.median(rates[name]) for name in ("shards", "files"))
    with capsys.disabled():
        print(f"\nshards {shards:.0f} samples/s, files {files:.0f} samples/s, ratio {shards / files:.1f}", rates)
    assert shards > 2 * files


def test_twenty_thousand_samples_are_packed_in_linear_time_and_read_in_constant_memory(tmp_path: Path, capsys):
    """Packing 5, 10 and 20 thousand samples takes so long each; three epochs of reading hold so much memory."""
    counts = (5_000, 10_000, 20_000)
    seconds = {}
    for count in counts:
        first = sum(len(os.listdir(tmp_path / f"crops-{less}")) // 2 for less in seconds)
        make_crops(tmp_path / f"crops-{count}", count, first=first)
        began = time.perf_counter()
        pack_folder(tmp_path / f"crops-{count}", tmp_path / str(count))
        seconds[count] = time.perf_counter() - began

    loader = ShardLoader(tmp_path / str(counts[-1]), seed=0, workers=0)
    memory, read = [], 0
    process = psutil.Process()
    for batch in loader.batches(100, image_resolution=None, stage=32):
        read += len(batch.keys)
        if read % 2_000 == 0:
            memory.append(process.memory_info().rss / 2**20)
        if read == 3 * counts[-1]:
            break
    steady = memory[len(memory) // 3 :]  # the first epoch fills caches: what shards were verified, where samples lie
    with capsys.disabled():
        print("\n" + ", ".join(f"{count:,} samples {taken:.1f} s" for count, taken in seconds.items()))
        print(f"resident memory from the second epoch on {min(steady):.0f} to {max(steady):.0f} MiB")
    assert max(steady) - min(steady) < 50
