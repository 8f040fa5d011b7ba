"""Paths that are nearly right: a file where its folder is meant, and folders with colons in their names."""

import shutil
from pathlib import Path

import pytest

from helpers.crop_folder import make_crops
from launch.cli import main


@pytest.mark.parametrize(
    ("command", "file"),
    [
        ("verify --data", "manifest.json"),
        ("verify --data", "shard-000000.tar"),
        ("verify --data", "shard-{000000..000003}.tar"),
        ("inspect --data", "manifest.json"),
        ("remove --source x.jpg --data", "manifest.json"),
        ("card --data", "manifest.json"),
        ("train --output {out} --data", "shard-000000.tar"),
    ],
)
def test_a_file_of_a_folder_of_shards_is_answered_with_the_folder(shards32: Path, tmp_path, capsys, command, file):
    code = main([*command.format(out=tmp_path / "run").split(), str(shards32 / file)])
    err = capsys.readouterr().err
    assert code in (1, 2) and f"{file}: not a folder; give its folder, {shards32}" in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["manifest.json", "shard-000000.tar"])
def test_a_file_at_an_address_is_answered_with_the_folder(name, capsys):
    assert main(["verify", "--data", f"https://example.org/faces/{name}"]) == 2
    assert "not a folder; give its folder, https://example.org/faces\n" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["sample --model", "compare --data x --model"])
def test_a_file_of_a_snapshot_is_answered_with_its_folder(tmp_path, capsys, command):
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert main([*command.split(), str(tmp_path / "model.safetensors"), "--output", str(tmp_path / "out")]) == 2
    assert f"model.safetensors: not a folder; give its folder, {tmp_path}" in capsys.readouterr().err


def test_a_file_of_a_teacher_is_answered_with_its_folder(tmp_path, capsys):
    make_crops(tmp_path / "crops", 1)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"")
    flags = ["--input", str(tmp_path / "crops"), "--output", str(tmp_path / "out"), "--teacher", str(weights)]
    assert main(["pack", *flags]) in (1, 2)
    assert "give its folder" in capsys.readouterr().err


def test_a_crop_is_answered_with_its_folder(tmp_path, capsys):
    (tmp_path / "a.jpg").write_bytes(b"")
    assert main(["pack", "--input", str(tmp_path / "a.jpg"), "--output", str(tmp_path / "out")]) == 2
    assert f"a.jpg: not a folder; give its folder, {tmp_path}" in capsys.readouterr().err


def test_a_folder_that_is_there_may_have_a_colon_in_its_name(shards32: Path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(shards32, "faces:v2")
    assert main(["verify", "--data", "faces:v2"]) == 0
    assert main(["inspect", "--data", "faces:v2", "--output", "page.png"]) == 0
