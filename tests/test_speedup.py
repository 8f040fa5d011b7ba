"""How much faster several ranks are; prints what it measures."""

import statistics
from pathlib import Path

import pytest
from crop_folder import make_crops
from ranks import ROOT, torchrun

from shards.pack import pack_folder

TURNS = 5


@pytest.mark.slow
def test_two_processes_train_nearly_twice_as_fast_as_one(tmp_path: Path, capsys):
    """One thread each, the same run and global batch, medians of five turns in alternation. The design wants 1.8 where
    two cores are free; nothing is asserted but that the second process helps."""
    make_crops(tmp_path / "crops", 400)
    pack_folder(tmp_path / "crops", tmp_path / "shards")
    flags = [f"--config={ROOT / 'configs' / 'faces32.yaml'}", f"--data={tmp_path / 'shards'}", f"--output={tmp_path / 'run'}"]
    rates: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(TURNS):
        for ranks, found in rates.items():
            done = torchrun(ranks, ROOT / "tests" / "step_rate.py", "10", *flags)
            found.append(round(float(done.stdout.split()[-1]), 1))
    one, two = (statistics.median(found) for found in rates.values())
    with capsys.disabled():
        print(f"\n1 process {one:.1f} img/s, 2 processes {two:.1f} img/s, ratio {two / one:.2f}", rates)
    assert two > one
