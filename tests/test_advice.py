"""A folder of the wrong kind is answered with the commands that make the right one, and those run as printed."""

import shlex
from pathlib import Path

import pytest

from dinogen.advice import command_line, sibling
from dinogen.data.manifest import read_manifest
from dinogen.errors import DinogenError
from helpers.crop_folder import make_crops
from helpers.drawn_face import draw_face
from launch import crop, pack, train, verify
from launch.cli import main


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three photos in a folder whose name needs quotes."""
    folder = tmp_path / "my holiday" / "photos"
    folder.mkdir(parents=True)
    for index in range(3):
        draw_face(height=180 + 20 * index, background=(80 * index, 90, 140)).save(folder / f"IMG_{index}.jpg")
    return folder


def complaint(verb, capsys, *flags: object) -> str:
    assert verb.main([str(flag) for flag in flags]) in (1, 2)
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_pack_on_photos_says_to_crop_first(photos: Path, capsys):
    line = complaint(pack, capsys, "--input", photos, "--output", photos.parent / "shards")
    crops = photos.parent / "crops"
    assert f"holds photos, not crops; run first: dinogen crop --input '{photos}' --output '{crops}'" in line


def test_pack_on_photos_in_folders_below_says_so_too(photos: Path, capsys):
    line = complaint(pack, capsys, "--input", photos.parent, "--output", photos.parent.parent / "shards")
    assert "holds photos, not crops; run first: dinogen crop" in line


@pytest.mark.parametrize("verb", [train, verify])
def test_crops_for_shards_are_answered_with_pack(tmp_path: Path, capsys, verb):
    make_crops(tmp_path / "crops", 2)
    more = ["--output", tmp_path / "run"] if verb is train else []
    line = complaint(verb, capsys, "--data", tmp_path / "crops", *more)
    assert f"run first: dinogen pack --input {tmp_path}/crops --output {tmp_path}/shards" in line
    assert not (tmp_path / "run").exists()


def test_photos_for_shards_are_answered_with_commands_that_make_them(photos: Path):
    with pytest.raises(DinogenError, match="holds photos, not shards") as refused:
        read_manifest(photos)
    for command in str(refused.value).partition("run first: ")[2].split(" && "):
        assert main(shlex.split(command)[1:]) == 0
    assert read_manifest(photos.parent / "shards").samples == 3


@pytest.mark.parametrize("name", ["none", "empty", "other"])
def test_nothing_is_guessed_about_other_folders(tmp_path: Path, name: str):
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("x")
    with pytest.raises(DinogenError, match="no such folder" if name == "none" else "no manifest.json .no shards here"):
        read_manifest(tmp_path / name)


def test_the_next_command_of_each_step_runs_as_printed(photos: Path, capsys, monkeypatch):
    """From another folder, by a shell's rules, up to the shards; what follows them is parsed."""
    monkeypatch.chdir(photos.parent)
    assert crop.main(["--input", "photos", "--output", "crops"]) == 0
    commands = []
    for _ in range(3):
        next_line = capsys.readouterr().out.strip().splitlines()[-1].partition("Next: ")[2]
        commands.append(next_line)
        words = shlex.split(next_line)
        if words[1] == "train":
            break
        assert main(words[1:]) == 0
    assert commands[0] == "dinogen pack --input crops --output shards"
    assert commands[1] == "dinogen train --config faces32 --data shards --output runs/faces"
    parsed = train.build_parser().parse_args(shlex.split(commands[1])[2:])
    assert parsed.data == "shards"


def test_commands_are_quoted_for_a_shell():
    assert command_line("crop", input="a b", val_fraction=0.1) == "dinogen crop --input 'a b' --val-fraction 0.1"


@pytest.mark.parametrize(
    ("folder", "made"),
    [
        ("data/crops", "data/shards"),
        ("data/mine", "data/mine-shards"),
        ("big-crops/", "big-shards"),
        ("crops", "shards"),
    ],
)
def test_the_next_folder_lies_beside_the_last(folder: str, made: str):
    assert str(sibling(folder, "crops", "shards")) == made


def test_the_folder_that_one_is_in_has_a_sibling_too(tmp_path: Path, monkeypatch):
    (tmp_path / "crops").mkdir()
    monkeypatch.chdir(tmp_path / "crops")
    assert sibling(".", "crops", "shards") == tmp_path / "shards"
