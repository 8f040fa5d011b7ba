"""Files and folders are written whole or not at all."""

import os
import subprocess

import pytest

from dinogen.errors import DinogenError
from dinogen.files import atomic_file, atomic_folder, write_json


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "report.json"
    write_json(target, {"old": 1})
    with pytest.raises(RuntimeError), atomic_file(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert os.listdir(tmp_path) == ["report.json"] and "old" in target.read_text()


def test_a_folder_takes_its_name_only_when_whole(tmp_path):
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "checkpoint") as temporary:
        (temporary / "a").write_text("half")
        raise RuntimeError
    assert os.listdir(tmp_path) == []
    with atomic_folder(tmp_path / "checkpoint") as temporary:
        (temporary / "a").write_text("whole")
        assert not (tmp_path / "checkpoint").exists()
    assert (tmp_path / "checkpoint" / "a").read_text() == "whole"


def test_numbers_that_json_does_not_know_are_refused(tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "report.json", {"loss": float("nan")})
    assert os.listdir(tmp_path) == []


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(DinogenError, match="taken.*choose another --output"):
        write_json(tmp_path / "taken" / "report.json", {})


def test_a_full_disk_is_one_plain_line(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        with pytest.raises(DinogenError, match="the disk is full"), atomic_file(disk / "big") as temporary:
            temporary.write_bytes(bytes(1 << 20))
        assert os.listdir(disk) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)
