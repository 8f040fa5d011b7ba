"""Captions: by the name of the source, from tables and from texts beside the photos, one or several a picture."""

import json
import shutil
import unicodedata
from itertools import islice
from pathlib import Path

import pytest

from dinogen.data.loader import LoaderState, ShardLoader, load_captions
from dinogen.data.manifest import read_manifest
from dinogen.data.schema import SampleRecord
from dinogen.data.shard import Shard
from dinogen.errors import DinogenError, UsageError
from helpers.crop_folder import make_crops
from helpers.drawn_face import draw_face
from launch.card import main as card
from launch.inspect import main as inspect
from launch.pack import main as pack
from launch.verify import main as verify
from shards.captions import read_captions
from shards.crop import crop_folder
from shards.names import Photo, PhotoNames
from shards.options import CropOptions, PackOptions
from shards.pack import pack_folder
from shards.remove import remove_samples
from shards.verify import verify_folder

SEVERAL = {f"photo-{number:04d}.jpg": [f"{number} {word}" for word in "abc"[: number % 4]] for number in range(12)}


def records_of(folder: Path) -> dict[str, SampleRecord]:
    """The records of all samples, by key."""
    found = {}
    for path in sorted(folder.glob("*.tar")):
        shard = Shard(path)
        found |= {key: SampleRecord.from_bytes(shard.read(row, "record")) for row, key in enumerate(shard.keys)}
    return found


def captions_of(folder: Path) -> dict[str, tuple[str, ...]]:
    """The captions of all samples, by the name of their source."""
    return {record.source: record.captions for record in records_of(folder).values()}


def named(*paths: str) -> PhotoNames:
    """Photos with these paths, each with other bytes."""
    return PhotoNames((path, Photo(path.rpartition("/")[2], f"{number:064x}")) for number, path in enumerate(paths))


def read(path: Path, names: PhotoNames) -> dict[str, tuple[str, ...]]:
    """The captions in a file or folder, by the photos' file names."""
    return {photo.source: texts for photo, texts in read_captions(path, names).items()}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve samples in three shards, with none to three captions each."""
    top = tmp_path_factory.mktemp("captions")
    make_crops(top / "crops", 12)
    rows = ({"file": file, "captions": texts} for file, texts in SEVERAL.items())
    (top / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pack_folder(top / "crops", top / "out", PackOptions(captions=top / "captions.jsonl", shard_size=4, stages=[16]))
    return top / "out"


# --- files of captions ---

CSV = """hair,file,caption,caption_2
brown,photo-0000.jpg,"a face, smiling","she said ""hi"" to
me"

brown,photo-0002.jpg,ein Gesicht mit Bärtchen,
red,photo-0000.jpg,"a face, smiling",a third one
"""
JSONL = """{"file": "photo-0000.jpg", "caption": ["a face,\u2028smiling", "she said \\"hi\\"\\nto me"]}

{"file": "photo-0002.jpg", "caption": "ein Gesicht mit Bärtchen", "hair": "brown"}
{"file": "photo-0001.jpg", "caption": null}
{"captions": ["a third one", " "], "file": "photo-0000.jpg"}
"""


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name, text", [("captions.csv", CSV), ("captions.jsonl", JSONL)])
def test_captions_come_by_the_name_of_the_source(tmp_path: Path, name: str, text: str, encoding: str, ends: str):
    (tmp_path / name).write_bytes(text.replace("\n", ends).encode(encoding))
    assert read(tmp_path / name, named(*(f"photo-000{number}.jpg" for number in range(3)))) == {
        "photo-0000.jpg": ("a face, smiling", 'she said "hi" to me', "a third one"),
        "photo-0002.jpg": ("ein Gesicht mit Bärtchen",),
    }


def test_captions_come_from_texts_beside_the_photos(tmp_path: Path):
    make_crops(tmp_path / "crops", 3)
    (tmp_path / "photos" / "june").mkdir(parents=True)
    texts = {
        "photo-0000.txt": "a face,  smiling\r\n\r\na face,\u2028too\na face, smiling\n",
        "june/photo-0002.txt": "\ufeffein Gesicht",
        "photo-0001.txt": "\n",
        "LICENCE.txt": "not a caption",
    }
    for name, text in texts.items():
        (tmp_path / "photos" / name).write_bytes(text.encode())
    (tmp_path / "photos" / "._photo-0000.txt").write_bytes(b"\xff")  # as some systems leave behind
    pack_folder(tmp_path / "crops", tmp_path / "out", PackOptions(captions=tmp_path / "photos"))
    assert captions_of(tmp_path / "out") == {
        "photo-0000.jpg": ("a face, smiling", "a face, too"),
        "photo-0001.jpg": (),
        "photo-0002.jpg": ("ein Gesicht",),
    }


@pytest.mark.parametrize(
    "texts, message",
    [
        ({}, "no .txt files here; captions of photo.jpg are read from photo.txt"),
        ({"b.txt": b"one\n\xff\xfe"}, "b.txt: line 2: cannot be read as UTF-8 text"),
        ({"b.txt": b"one", "d/b.txt": b"two"}, "d/b.txt: a second file with other captions for 'b'"),
        (
            {"c.txt": b"one"},
            "none of 1 .txt file belongs to a crop .1 of no photo, such as 'c.txt'.; .*named like 'b.jpg'",
        ),
    ],
)
def test_a_folder_of_captions_that_cannot_be_used_is_refused(tmp_path: Path, texts: dict[str, bytes], message: str):
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(text)
    with pytest.raises(UsageError, match=f"{tmp_path}.{{1,2}}{message}"):
        read_captions(tmp_path, named("b.jpg"))


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("c.csv", b"name,caption\na,b\n", "line 1: no column file"),
        ("c.csv", b"", "line 1: no column caption and no column file"),
        ("c.csv", b"file;caption\na;b\n", "line 1: no column caption .*; separate them by commas"),
        ("c.csv", b"file,caption\na,b\na,a face, smiling\n", "line 3: 3 cells instead of 2; a caption with a comma"),
        ("c.csv", b'file,caption\na,"b\nb"\na\n', "line 4: 1 cells instead of 2"),
        ("c.csv", b'file,caption\na,b\na,"b\na,b\n', "line 3: cannot be read .*are its double quotes in pairs"),
        ("c.csv", b'file,caption\na,"b" b\n', "line 2: cannot be read"),
        ("c.csv", b"file,caption\na,b\na,\xe4\n", "line 3: cannot be read as UTF-8 text; save it as UTF-8"),
        ("c.jsonl", b'{"file": "a", "caption": "b"}\n{"file": "a"}\n', "line 2: not an object with 'file'"),
        ("c.jsonl", b'{"file": "a", "caption"\n', "line 1: not an object with 'file' and 'caption'"),
        ("c.jsonl", b'\n{"file": "a", "caption": 3}\n', "line 2: 'file' and 'caption' must be texts"),
        ("c.jsonl", b'{"file": "a", "captions": ["b", 3]}\n', "line 1: 'file' and 'caption' must be texts"),
        ("c.jsonl", b"\n", "no row in it"),
        ("c.xlsx", b"", "captions come as .csv"),
    ],
)
def test_a_table_of_captions_that_cannot_be_used_is_refused(tmp_path: Path, name: str, text: bytes, message: str):
    (tmp_path / name).write_bytes(text)
    with pytest.raises(UsageError, match=f"{name}: {message}"):
        read_captions(tmp_path / name, named("a", "a.jpg"))
    with pytest.raises(UsageError, match="missing.csv: cannot be read"):
        read_captions(tmp_path / "missing.csv", named("a"))


# --- which photo a row means ---


def test_pack_says_how_many_rows_have_found_a_photo(tmp_path: Path, capsys: pytest.CaptureFixture):
    make_crops(tmp_path / "crops", 2)
    table = tmp_path / "captions.csv"
    table.write_text("file,caption\nphoto-0001,without a suffix\nblurred.jpg,a cloud\nelse.jpg,nobody\n")
    (tmp_path / "crops" / "report.csv").write_text("source,cause\nmay/blurred.jpg,no-face\n")
    command = ["--input", str(tmp_path / "crops"), "--output", str(tmp_path / "out"), "--stages", "16"]
    assert pack([*command, "--captions", str(table), "--quiet"]) == 0
    assert captions_of(tmp_path / "out") == {"photo-0000.jpg": (), "photo-0001.jpg": ("without a suffix",)}
    said = capsys.readouterr().err
    assert (
        "1 of 3 rows matched; 1 of photos that gave no crop; 1 of no photo, such as 'else.jpg'. "
        "1 of 2 photos with crops have captions from there." in said
    )


@pytest.mark.parametrize(
    "rows, found",
    [
        (["else.jpg,nobody"], "1 of no photo, such as 'else.jpg'"),
        (["may/blurred.jpg,a cloud"], "1 of photos that gave no crop"),
        ([], "no row in it"),
    ],
)
def test_a_table_of_which_no_row_belongs_to_a_crop_is_refused(tmp_path: Path, rows: list[str], found: str):
    (tmp_path / "c.csv").write_text("\n".join(["file,caption", *rows]))
    names = PhotoNames([("may/a.jpg", Photo("a.jpg", "0")), ("may/blurred.jpg", None)])
    with pytest.raises(UsageError, match=f"c.csv: .*{found}.*photos are named like 'may/a.jpg'"):
        read_captions(tmp_path / "c.csv", names)


PATHS = ("june/anna/IMG_1.jpg", "june/bob/IMG_1.jpg", "Müller.jpg", "june/anna/IMG_2.jpg", "IMG_2.jpg")


@pytest.mark.parametrize(
    "name, found",
    [
        ("june/anna/IMG_1.jpg", 0),
        ("anna/IMG_1.jpg", 0),
        ("./june/bob/IMG_1", 1),
        ("/home/me/photos/june/bob/IMG_1.jpg", 1),
        ("june\\anna\\IMG_1.jpg", 0),
        (" C:\\photos\\june\\bob\\IMG_1.jpg ", 1),
        (unicodedata.normalize("NFC", "Müller.jpg"), 2),
        (unicodedata.normalize("NFD", "Müller"), 2),
        ("anna/IMG_2.jpg", 3),
        ("IMG_2.jpg", 4),  # the whole path of one of two
    ],
)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_row_may_name_a_photo_by_any_path(tmp_path: Path, name: str, found: int, form):
    names = named(*(unicodedata.normalize(form, path) for path in PATHS))
    (tmp_path / "c.csv").write_text(f"file,caption\n{name},x\n")
    assert [int(photo.sha256, 16) for photo in read_captions(tmp_path / "c.csv", names)] == [found]


@pytest.mark.parametrize(
    "rows, message",
    [
        (["IMG_1.jpg"], "line 2: 'IMG_1.jpg' may be june/anna/IMG_1.jpg and june/bob/IMG_1.jpg; write the path"),
        (["Müller.jpg", "IMG_1"], "line 3: 'IMG_1' may be june/anna/IMG_1 and june/bob/IMG_1"),
        (["a/Müller.jpg", "b/Müller.jpg"], "line 3: 'b/Müller.jpg' and 'a/Müller' .*line 2. both mean the photo"),
    ],
)
def test_a_row_that_may_mean_several_photos_is_refused(tmp_path: Path, rows: list[str], message: str):
    (tmp_path / "c.csv").write_text("file,caption\n" + "".join(f"{row},x\n" for row in rows))
    with pytest.raises(UsageError, match=message):
        read_captions(tmp_path / "c.csv", named(*PATHS))


def test_copies_of_a_photo_may_have_a_row_or_a_text_each(tmp_path: Path):
    photo = Photo("a.jpg", "0")
    names = PhotoNames([("june/a.jpg", photo), ("june/copy.jpg", photo), ("july/a.jpg", photo)])
    (tmp_path / "c.csv").write_text("file,caption\njune/a.jpg,x\ncopy.jpg,y\njuly/a.jpg,x\n")
    assert read_captions(tmp_path / "c.csv", names) == {photo: ("x", "y")}
    (tmp_path / "june").mkdir()
    for name, text in (("a", "x"), ("copy", "y")):
        (tmp_path / "june" / f"{name}.txt").write_text(text)
    assert read_captions(tmp_path, names) == {photo: ("x", "y")}


def test_a_path_of_another_folder_is_of_no_photo(tmp_path: Path):
    (tmp_path / "c.csv").write_text("file,caption\njune/carl/IMG_1.jpg,x\nanna/IMG_1.jpg,y\n")
    assert list(read_captions(tmp_path / "c.csv", named(*PATHS)).values()) == [("y",)]


def test_texts_beside_photos_of_equal_names_belong_to_those_in_their_folder(tmp_path: Path):
    for name in ("june/anna/IMG_1.txt", "june/bob/IMG_1.txt"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(name)
    found = read_captions(tmp_path, named(*PATHS))
    assert sorted(found.values()) == [("june/anna/IMG_1.txt",), ("june/bob/IMG_1.txt",)]
    assert list(read_captions(tmp_path / "june" / "bob", named(*PATHS)).values()) == [("june/bob/IMG_1.txt",)]


def test_photos_of_equal_names_get_their_own_captions_from_their_paths_in_the_report(tmp_path: Path):
    """From photos in folders to shards: the report says which crop came from which."""
    for number, name in enumerate(("anna/IMG_1.jpg", "bob/IMG_1.jpg", "bob/again.jpg")):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        draw_face(background=(60 + 90 * min(number, 1), 120, 150)).save(tmp_path / "photos" / name)
    crop_folder(tmp_path / "photos", tmp_path / "crops", CropOptions(min_sharpness=0), workers=0)
    (tmp_path / "c.csv").write_text("file,caption\nanna/IMG_1.jpg,Anna\nbob/again.jpg,Bob\n")
    pack_folder(tmp_path / "crops", tmp_path / "out", PackOptions(captions=tmp_path / "c.csv", stages=[16]))
    assert sorted(record.captions for record in records_of(tmp_path / "out").values()) == [("Anna",), ("Bob",)]


# --- records ---


def test_a_record_keeps_all_captions_and_the_first_where_older_versions_look():
    record = SampleRecord("a.jpg", "00", captions=("one", "two"))
    assert SampleRecord.from_bytes(record.to_bytes()) == record
    assert json.loads(record.to_bytes())["caption"] == "one"


@pytest.mark.parametrize("caption, captions", [("one", ("one",)), (None, ()), ("", ())])
def test_a_record_of_one_caption_has_the_bytes_that_it_always_had(caption: str | None, captions: tuple[str, ...]):
    old = {"box": None, "caption": caption, "consent": None, "landmarks": None, "licence": None, "score": None,
           "source": "a.jpg", "source_sha256": "00", "split": "train"}  # fmt: skip
    record = SampleRecord.from_bytes(json.dumps(old).encode())
    assert record.captions == captions
    assert json.loads(record.to_bytes()) == old | {"caption": caption or None}


@pytest.mark.parametrize("captions", ['"one"', "[3]", "{}"])
def test_a_record_whose_captions_are_no_texts_is_refused(captions: str):
    payload = f'{{"source": "a.jpg", "source_sha256": "00", "captions": {captions}}}'
    with pytest.raises(DinogenError, match="'captions' not a list of texts"):
        SampleRecord.from_bytes(payload.encode())


# --- the loader ---


def drawn(data: Path, batches: int, **options) -> list[list[tuple[str, str | None]]]:
    """Keys and captions of the first batches of ten samples, most of which reach into the next epoch."""
    images, size = options.pop("images", None), options.pop("size", 10)
    loader = ShardLoader(data, **({"seed": 0} | options))
    found = islice(loader.batches(size, image_resolution=images, stage=None), batches)
    return [list(zip(batch.keys, batch.captions)) for batch in found]


def test_all_of_a_samples_captions_are_drawn_in_turn(data: Path):
    texts: dict[str, set[str | None]] = {}
    for key, caption in sum(drawn(data, 50), []):
        texts.setdefault(key, set()).add(caption)
    assert texts == {key: set(record.captions) or {None} for key, record in records_of(data).items()}


def test_captions_are_drawn_alike_whatever_the_ranks_workers_and_batches(data: Path):
    alone = drawn(data, 7)
    parts = [drawn(data, 7, rank=rank, world_size=2) for rank in range(2)]
    assert [first + second for first, second in zip(*parts)] == alone
    assert drawn(data, 7, workers=2, images=16) == drawn(data, 7, workers=1) == alone
    assert drawn(data, 4, state=LoaderState(2, 6)) == alone[3:]
    assert sum(drawn(data, 10, size=7), []) == sum(alone, [])


def test_another_seed_draws_other_captions(data: Path):
    one = next(key for key, record in records_of(data).items() if len(record.captions) == 3)
    rows = [[caption for key, caption in sum(drawn(data, 40, seed=seed), []) if key == one] for seed in range(4)]
    assert all(first[:30] != second[:30] for first, second in zip(rows, rows[1:]))


def test_the_draw_is_frozen():
    """A run that is resumed by a later version must find the same captions."""
    record = SampleRecord("a.jpg", "00", captions=("a", "b", "c"))
    assert "".join(record.draw_caption(7, epoch, "key") or "" for epoch in range(12)) == "cbaccccaaacc"


def test_captions_of_a_data_set_come_one_a_sample(data: Path):
    found = load_captions(data, 100)
    assert len(found) == 12 and found.count(None) == 3
    assert {text.split()[0] for text in found if text} == {text[0].split()[0] for text in SEVERAL.values() if text}
    assert load_captions(data, 5) == found[:5]


# --- how many samples have captions ---


def test_commands_say_how_many_samples_have_captions(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    assert read_manifest(data).captioned() == read_manifest(data).captioned("train") == 9
    assert verify(["--data", str(data)]) == 0
    assert "12 samples in 3 shards, all whole; 9 of them with captions" in capsys.readouterr().out
    assert inspect(["--data", str(data), "--output", str(tmp_path / "i.png")]) == 0
    assert "captions  9 of 12 samples have some" in capsys.readouterr().out
    assert card(["--data", str(data), "--output", str(tmp_path / "card.md")]) == 0
    assert "| Crops with a caption | 9 |" in (tmp_path / "card.md").read_text()


def test_a_removal_counts_captions_anew(data: Path, tmp_path: Path):
    copy = shutil.copytree(data, tmp_path / "copy")
    remove_samples(copy, sources=["photo-0003.jpg", "photo-0004.jpg"])
    assert read_manifest(copy).captioned() == verify_folder(copy).captioned == 8
    assert verify_folder(copy).problems == []


def test_shards_that_were_packed_before_captions_were_counted_say_so(data: Path, tmp_path: Path, capsys):
    copy = shutil.copytree(data, tmp_path / "copy")
    manifest = json.loads((copy / "manifest.json").read_text())
    for shard in manifest["shards"]:
        del shard["captioned"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert read_manifest(copy).captioned() is None
    assert inspect(["--data", str(copy), "--output", str(tmp_path / "i.png")]) == 0
    assert "captions  not counted when these shards were packed" in capsys.readouterr().out
    assert verify_folder(copy).captioned == 9 and verify_folder(copy).problems == []


@pytest.mark.parametrize("wrong", [7, "four"])
def test_a_wrong_count_of_captions_is_a_problem(data: Path, tmp_path: Path, wrong):
    copy = shutil.copytree(data, tmp_path / "copy")
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["shards"][0]["captioned"] = wrong
    (copy / "manifest.json").write_text(json.dumps(manifest))
    if wrong == "four":
        with pytest.raises(DinogenError, match="manifest.json: damaged"):
            verify_folder(copy)
    else:
        (problem,) = verify_folder(copy).problems
        assert "samples have captions, and the manifest says 7" in problem
