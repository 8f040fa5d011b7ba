"""`dinogen remove` takes out exactly who was named: names as people have them, and as reports write them."""

import csv
import json
import shutil
import unicodedata
from pathlib import Path

import pytest

from dinogen.data.manifest import read_manifest
from dinogen.data.schema import SampleRecord
from dinogen.data.shard import Shard
from dinogen.errors import DinogenError
from dinogen.folder_lock import FolderLock
from helpers.crop_folder import make_crops
from launch import card, remove
from shards.options import PackOptions
from shards.pack import pack_folder
from shards.remove import remove_samples
from shards.table import from_cell, to_cell

PATHS = (
    "anna/IMG_1.jpg", "bob/IMG_1.jpg", "bob/IMG_2.jpg", "IMG_2.jpg", "2024/carl/IMG_3.jpg", "=cmd.jpg",
    "Zoe\u0308.jpg", "bob/'-x.jpg", "-m.jpg",
)  # fmt: skip


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> Path:
    crops, folder = tmp_path_factory.mktemp("crops"), tmp_path_factory.mktemp("packed")
    for path, key in zip(PATHS, make_crops(crops, len(PATHS))):
        file = crops / f"{key}.json"
        record = json.loads(file.read_text()) | {
            "source": path.rpartition("/")[2],
            "address": f"https://b.example/{key}",
        }
        file.write_text(json.dumps(record | ({"path": path} if "/" in path else {})))
    pack_folder(crops, folder, PackOptions(stages=[16], shard_size=4, mirror=True))
    return folder


@pytest.fixture
def data(packed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packed, tmp_path / "data"))


def records_of(data: Path) -> dict[str, SampleRecord]:
    shards = [Shard(data / shard.name) for shard in read_manifest(data).shards]
    return {
        key: SampleRecord.from_bytes(shard.read(row, "record"))
        for shard in shards
        for row, key in enumerate(shard.keys)
    }


def left_in(data: Path) -> list[str]:
    """The paths of the photos whose samples are left; each has two, one of them mirrored."""
    paths = [record.path or record.source for record in records_of(data).values()]
    assert all(paths.count(path) == 2 for path in paths)
    return sorted(set(paths))


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("anna/IMG_1.jpg", PATHS[0]),
        ("./bob/IMG_1.jpg", PATHS[1]),
        ("IMG_2.jpg", PATHS[3]),  # the whole path of one of two
        ("IMG_3.jpg", PATHS[4]),
        ("carl/IMG_3.jpg", PATHS[4]),
        ("=cmd.jpg", PATHS[5]),
        ("'=cmd.jpg", PATHS[5]),  # as report.csv has it
        (unicodedata.normalize("NFC", PATHS[6]), PATHS[6]),
        (PATHS[6], PATHS[6]),
        (to_cell(PATHS[7]), PATHS[7]),
    ],
)
def test_a_name_takes_out_one_photo_with_its_mirror_image(data: Path, name: str, path: str):
    assert len(remove_samples(data, sources=[name]).keys) == 2
    assert left_in(data) == sorted(set(PATHS) - {path})


def test_a_sha256_an_address_and_a_key_take_out_one_photo_each(data: Path):
    records = records_of(data)
    keys = {record.path: key for key, record in records.items() if not record.mirrored}
    remove_samples(data, sources=[records[keys[PATHS[0]]].source_sha256, str(records[keys[PATHS[1]]].address)])
    remove_samples(data, keys=[f"{keys[PATHS[2]]}-m"])
    assert left_in(data) == sorted(PATHS[3:])


@pytest.mark.parametrize("name", ["IMG_1.jpg", "./IMG_1.jpg"])
def test_a_name_of_two_is_refused_with_both_and_nothing_changes(data: Path, name: str, capsys):
    before = {path.name: path.read_bytes() for path in data.iterdir()}
    assert remove.main(["--data", str(data), "--source", "IMG_3.jpg", name]) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "may be 2 photos: anna/IMG_1.jpg (sha256 " in said and "bob/IMG_1.jpg" in said
    assert before == {path.name: path.read_bytes() for path in data.iterdir()}


@pytest.mark.parametrize("name", ["carl/IMG_1.jpg", "photos/anna/IMG_1.jpg", "MG_3.jpg", "anna/", ""])
def test_a_path_of_nobody_is_not_taken_for_another(data: Path, name: str):
    with pytest.raises(DinogenError, match="holds nothing of"):
        remove_samples(data, sources=[name])


def test_the_card_is_written_anew_and_two_at_once_are_refused(data: Path):
    assert card.main(["--data", str(data)]) == 0
    assert "| pictures |" in (data / "README.md").read_text() or "9" in (data / "README.md").read_text()
    before = (data / "README.md").read_text()
    with FolderLock(data, "is packing"):
        for refused in (lambda: remove_samples(data, sources=[PATHS[0]]), lambda: pack_folder_into(data)):
            with pytest.raises(DinogenError, match="is packing here"):
                refused()
        assert card.main(["--data", str(data)]) == 1
    assert left_in(data) == sorted(PATHS)
    remove_samples(data, sources=[PATHS[0]])
    assert (data / "README.md").read_text() != before


def pack_folder_into(data: Path) -> None:
    make_crops(data.with_name("crops"), 2)
    pack_folder(data.with_name("crops"), data, PackOptions(stages=[16]))


# ---- cells of tables


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+a",
        "-a",
        "@a",
        " =a",
        "\t=a",
        "\ta",
        "\r=a",
        "'=a",
        "''=a",
        "＝a",
        "'a",
        "a",
        "",
        "a=b",
        "'",
        "-60°, 3°",
    ],
)
def test_a_cell_is_text_to_a_spreadsheet_and_reads_back(text: str):
    cell = to_cell(text)
    assert cell[:1] not in ("=", "+", "-", "@", "\t", "\r", "＝") and cell.strip()[:1] not in ("=", "+", "-", "@")
    assert from_cell(cell) == text
    assert to_cell(-3.5) == -3.5


def test_names_like_formulas_are_text_in_both_reports(tmp_path: Path):
    from helpers.drawn_face import draw_face
    from shards.crop import crop_folder
    from shards.download import FETCHED, _write_table
    from shards.plan import names_of, plan_shards

    (tmp_path / "in").mkdir()
    draw_face().save(tmp_path / "in" / "=HYPERLINK(1).jpg")
    crop_folder(tmp_path / "in", tmp_path / "out", workers=0)
    _write_table(tmp_path / "downloads.csv", [{"address": "=cmd", "cause": FETCHED, "detail": "@x"}])
    for path in (tmp_path / "out" / "report.csv", tmp_path / "downloads.csv"):
        with path.open(newline="", encoding="utf-8") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        assert not [cell for cell in cells if cell[:1] in ("=", "+", "@")]
    assert "'=HYPERLINK(1).jpg" in (tmp_path / "out" / "report.csv").read_text()
    names = names_of(tmp_path / "out", plan_shards(tmp_path / "out", 10))
    assert [path for path, photo in names.known if photo is not None] == ["=HYPERLINK(1).jpg"]
