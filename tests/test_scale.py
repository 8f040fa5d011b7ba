"""Long proofs of how the data side grows: with workers, with samples, with epochs. They print what they measure."""

import os
import statistics
import time
from pathlib import Path

import psutil
import pytest
from crop_folder import make_crops

from dinogen.data.loader import ShardLoader
from dinogen.teacher import make_teacher
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

    loader = ShardLoader(tmp_path / str(counts[-1]), make_teacher("tiny").spec, seed=0, workers=0)
    memory, read = [], 0
    process = psutil.Process()
    for batch in loader.batches(100, image_resolution=None):
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
