"""Captions: by the name of the source, from tables and from texts beside the photos."""

import json
from pathlib import Path

import pytest

from dinogen.data.schema import SampleRecord
from dinogen.data.shard import Shard
from dinogen.errors import UsageError
from helpers.crop_folder import make_crops
from shards.captions import read_captions
from shards.options import PackOptions
from shards.pack import pack_folder


def captions_of(folder: Path) -> dict[str, str | None]:
    found = {}
    for path in sorted(folder.glob("*.tar")):
        shard = Shard(path)
        records = [SampleRecord.from_bytes(shard.read(row, "record")) for row in range(len(shard))]
        found |= {record.source: record.caption for record in records}
    return found


@pytest.mark.parametrize("name", ["captions.csv", "captions.jsonl"])
def test_captions_come_by_the_name_of_the_source(tmp_path: Path, name: str):
    make_crops(tmp_path / "crops", 3)
    rows = [("photo-0000.jpg", "a face, smiling"), ("photo-0002.jpg", "ein Gesicht mit Bärtchen"), ("other.jpg", "?")]
    text = "hair,file,caption\n" + "".join(f'brown,{file},"{caption}"\n' for file, caption in rows)
    if name.endswith(".jsonl"):
        text = "".join(json.dumps({"file": file, "caption": caption}) + "\n" for file, caption in rows)
    (tmp_path / name).write_text(text, encoding="utf-8")
    pack_folder(tmp_path / "crops", tmp_path / "out", PackOptions(captions=tmp_path / name))
    assert captions_of(tmp_path / "out") == {
        "photo-0000.jpg": "a face, smiling",
        "photo-0001.jpg": None,
        "photo-0002.jpg": "ein Gesicht mit Bärtchen",
    }


def test_captions_come_from_texts_beside_the_photos(tmp_path: Path):
    make_crops(tmp_path / "crops", 3)
    (tmp_path / "photos" / "june").mkdir(parents=True)
    texts = {"photo-0000.txt": "a face,\nsmiling\n", "june/photo-0002.txt": "\ufeffein Gesicht", "photo-0001.txt": "\n"}
    for name, text in texts.items():
        (tmp_path / "photos" / name).write_text(text, encoding="utf-8")
    (tmp_path / "photos" / "._photo-0000.txt").write_bytes(b"\xff")  # as some systems leave behind
    pack_folder(tmp_path / "crops", tmp_path / "out", PackOptions(captions=tmp_path / "photos"))
    assert captions_of(tmp_path / "out") == {
        "photo-0000.jpg": "a face, smiling",
        "photo-0001.jpg": None,
        "photo-0002.jpg": "ein Gesicht",
    }


@pytest.mark.parametrize(
    "texts, message",
    [
        ({}, "no .txt files here; captions of photo.jpg are read from photo.txt"),
        ({"b.txt": b"\xff\xfe"}, "b.txt: cannot be read as UTF-8 text"),
        ({"b.txt": b"one", "d/b.txt": b"two"}, "d/b.txt: a second, different caption for 'b'"),
    ],
)
def test_a_folder_of_captions_that_cannot_be_used_is_refused(tmp_path: Path, texts: dict[str, bytes], message: str):
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(text)
    with pytest.raises(UsageError, match=f"{tmp_path}.{{1,2}}{message}"):
        read_captions(tmp_path)


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("c.csv", "name,caption\na,b\n", "no column file"),
        ("c.csv", "", "no column caption and no column file"),
        ("c.csv", "file,caption\na,b\na,c\n", "line 3: a second, different caption for 'a'"),
        ("c.jsonl", '{"file": "a"}\n', "line 1: not an object with 'file' and 'caption'"),
        ("c.jsonl", '{"file": "a", "caption": 3}\n', "line 1: 'file' and 'caption' must be texts"),
        ("c.xlsx", "", "captions come as .csv"),
    ],
)
def test_a_table_of_captions_that_cannot_be_used_is_refused(tmp_path: Path, name: str, text: str, message: str):
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=f"{name}: {message}"):
        read_captions(tmp_path / name)
