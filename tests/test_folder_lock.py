"""One folder, one writer, whatever the command, and after a crash too."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dinogen.errors import DinogenError
from dinogen.folder_lock import LOCK_NAME, FolderLock
from helpers.crop_folder import make_crops
from shards.crop import crop_folder
from shards.download import download
from shards.options import PackOptions
from shards.pack import pack_folder
from shards.synth import synth_folder

HOLD = """
import sys, time
from pathlib import Path
from dinogen.folder_lock import FolderLock
with FolderLock(Path(sys.argv[1]), "is packing", *map(int, sys.argv[2:])):
    print("held", flush=True)
    time.sleep(600)
"""


def holder_of(folder: Path, *ranks: int) -> subprocess.Popen:
    """Another process that has the lock."""
    command = [sys.executable, "-c", HOLD, str(folder), *map(str, ranks)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"held\n"
    return process


def test_the_second_one_is_told_who_holds_the_folder_and_a_crash_opens_it(tmp_path):
    process = holder_of(tmp_path / "out")
    try:
        with pytest.raises(DinogenError, match=f"out: process {process.pid} on .* is packing here; wait"):
            FolderLock(tmp_path / "out", "is cropping").acquire()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (tmp_path / "out" / LOCK_NAME).exists()
    with FolderLock(tmp_path / "out", "is cropping"):
        assert str(os.getpid()) in (tmp_path / "out" / LOCK_NAME).read_text()
    assert list((tmp_path / "out").iterdir()) == []


def test_ranks_of_one_launch_share_a_folder_and_those_of_two_do_not(tmp_path):
    process = holder_of(tmp_path, 0, 2)
    try:
        with FolderLock(tmp_path, "is packing", 1, 2):
            pass
        for other in (FolderLock(tmp_path, "is packing", 0, 2), FolderLock(tmp_path, "is packing")):
            with pytest.raises(DinogenError, match=f"process {process.pid}"):
                other.acquire()
    finally:
        process.kill()
        process.wait()
    with FolderLock(tmp_path, "is packing"), pytest.raises(DinogenError, match=f"process {os.getpid()}"):
        FolderLock(tmp_path, "is packing", 1, 2).acquire()


def test_a_lock_that_its_holder_deletes_is_not_taken_twice(tmp_path):
    """Whoever waits with the deleted file open has to look whether it is still there."""
    first, second, third = (FolderLock(tmp_path, "is at work") for _ in range(3))
    first.acquire()
    first.release()
    second.acquire()
    with pytest.raises(DinogenError, match="is at work"):
        third.acquire()
    second.release()


def test_looking_whether_a_folder_is_free_leaves_nothing(tmp_path):
    FolderLock(tmp_path / "out", "is training").check_free()
    assert not (tmp_path / "out").exists()


def draw(folder: Path) -> None:
    synth_folder(folder, 1, workers=1)


def fetch(folder: Path) -> None:
    (listing := folder.with_name("list.txt")).write_text("https://example.invalid/a.jpg")
    download(str(listing), folder)


def crop(folder: Path) -> None:
    (photos := folder.with_name("photos")).mkdir()
    (photos / "a.jpg").write_bytes(b"x")
    crop_folder(photos, folder, workers=0)


def pack(folder: Path) -> None:
    make_crops(folder.with_name("crops"), 1)
    pack_folder(folder.with_name("crops"), folder, PackOptions(stages=[16]))


@pytest.mark.parametrize("write", [draw, fetch, crop, pack])
def test_what_writes_a_folder_takes_its_lock(tmp_path, write):
    folder = tmp_path / "out"
    with FolderLock(folder, "is at work"):
        with pytest.raises(DinogenError, match=f"process {os.getpid()} on .* is at work here"):
            write(folder)
        assert [path.name for path in folder.iterdir()] == [LOCK_NAME]
