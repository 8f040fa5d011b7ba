"""Hugging Face data sets as photos: real ones, made here in a moment, opened by the real package."""

import io
import json
import sys
import zipfile
from pathlib import Path

import pytest

from dinogen.data.schema import SampleRecord
from dinogen.errors import DinogenError, UsageError
from helpers.files import photo
from launch.crop import main
from launch.download import main as download
from shards import hub
from shards.crop import crop_folder
from shards.hub import parse, read_rows, save_rows
from shards.sources import find_sources

datasets = pytest.importorskip("datasets", reason="needs pip install 'dinogen[datasets]'")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No network, and nothing of the user's cache."""
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("dinogen.data.transfer.FIRST_PAUSE", 0.001)


def make_table(folder: Path, pictures: list, name: str = "train-00000.parquet", **columns: list) -> str:
    """A data set of one parquet file, as `push_to_hub` makes them; its address."""
    folder.mkdir(parents=True, exist_ok=True)
    text = datasets.Value("string")
    kinds = {name: [text] if isinstance(values[0], list) else text for name, values in columns.items()}
    kinds |= {"image": datasets.Image(decode=False)}
    table = datasets.Dataset.from_dict({"image": pictures, **columns}, features=datasets.Features(kinds))
    datasets.disable_progress_bars()
    table.to_parquet(folder / name)
    return f"datasets://{folder}"


def stored(number: int, path: str | None = None) -> dict:
    return {"bytes": photo(number), "path": path}


def test_a_table_of_pictures_becomes_crops_with_its_captions_and_licences(tmp_path: Path):
    address = make_table(
        tmp_path / "faces", [stored(1, "anna.jpg"), stored(2)], caption=["a face", "another"], license=["CC0", "CC-BY"]
    )
    summary = crop_folder(address, tmp_path / "crops", cache=tmp_path / "cache", workers=0)
    assert (summary.sources, summary.crops) == (2, 2)
    records = [json.loads(path.read_text()) for path in (tmp_path / "crops").glob("*-0.json")]
    found = {record["source"]: (record["caption"], record["licence"], record["address"]) for record in records}
    assert found == {
        "00000000-anna.jpg": ("a face", "CC0", "datasets://faces?split=train&row=0"),
        "00000001.jpg": ("another", "CC-BY", "datasets://faces?split=train&row=1"),
    }


def test_several_captions_of_a_picture_are_all_kept(tmp_path: Path):
    address = make_table(tmp_path / "faces", [stored(1)], caption=[["a face", "a smile"]])
    crop_folder(address, tmp_path / "crops", cache=tmp_path / "cache", workers=0)
    (record,) = (tmp_path / "crops").glob("*-0.json")
    assert SampleRecord.from_bytes(record.read_bytes()).captions == ("a face", "a smile")


def test_bytes_are_those_that_were_stored_and_decoded_by_us_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def never(*arguments: object, **options: object) -> None:
        raise AssertionError("decoded by the package")

    monkeypatch.setattr(datasets.Image, "decode_example", never)
    address = make_table(tmp_path / "faces", [stored(1), {"bytes": b"no picture", "path": "x.jpg"}])
    sources = find_sources(address, tmp_path / "cache")
    assert [source.read() for source in sources] == [photo(1), b"no picture"]


def test_a_folder_and_a_zip_of_pictures_are_read(tmp_path: Path):
    (tmp_path / "plain" / "train").mkdir(parents=True)
    (tmp_path / "plain" / "train" / "one.jpg").write_bytes(photo(1))
    (tmp_path / "zipped").mkdir()
    with zipfile.ZipFile(tmp_path / "zipped" / "train.zip", "w") as archive:
        archive.writestr("in/two.jpg", photo(2))
    for kind, number in (("plain", 1), ("zipped", 2)):
        (source,) = find_sources(f"datasets://{tmp_path}/{kind}", tmp_path / "cache")
        assert source.read() == photo(number)


def test_a_row_that_names_a_file_outside_of_the_data_set_is_refused(tmp_path: Path):
    (tmp_path / "secret.jpg").write_bytes(photo(9))
    outside = [str(tmp_path / "secret.jpg"), f"{tmp_path}/faces/../secret.jpg", "python://x", "http://127.0.0.1:9/x",
               f"filecache://x::{tmp_path}/faces/train-00000.parquet"]  # fmt: skip
    rows = [{"bytes": None, "path": path} for path in outside] + [None, stored(1)]
    (tmp_path / "faces").mkdir()
    datasets.Dataset.from_dict({"image": rows}).to_parquet(tmp_path / "faces" / "train-00000.parquet")
    address = f"datasets://{tmp_path}/faces?column=image"
    summary = crop_folder(address, tmp_path / "crops", cache=tmp_path / "cache", workers=0)
    assert summary.causes == {"unreadable": len(outside), "empty-file": 1} and summary.crops == 1
    assert photo(9) not in [path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_splits_are_all_read_unless_one_is_chosen(tmp_path: Path):
    address = make_table(tmp_path / "faces", [stored(1)])
    make_table(tmp_path / "faces", [stored(2), stored(3)], "test-00000.parquet")
    assert len(find_sources(address, tmp_path / "cache")) == 3
    assert [source.read() for source in find_sources(f"{address}?split=train", tmp_path / "cache")] == [photo(1)]


def test_an_interrupted_stream_goes_on_after_its_last_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    address = make_table(tmp_path / "faces", [stored(number) for number in range(6)])
    save, saved = hub._save, []

    def interrupted(*arguments, **options):
        if len(saved) == 4:
            raise KeyboardInterrupt
        saved.append(arguments[3])
        return save(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(hub, "_save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            save_rows(address, tmp_path / "out")
    with (tmp_path / "out" / "rows.jsonl").open("a") as journal:
        journal.write('{"split": "tr')  # as a killed run leaves it
    counts = save_rows(address, tmp_path / "out")
    assert (counts.saved, counts.resumed, counts.broken) == (6, 4, 0)
    assert [path.read_bytes() for path in sorted((tmp_path / "out").rglob("*.jpg"))] == [photo(n) for n in range(6)]


def test_a_stream_that_breaks_is_taken_up_after_the_last_good_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    address = make_table(tmp_path / "faces", [stored(number) for number in range(5)])
    whole, breaks = datasets.IterableDataset.__iter__, [3, 1]

    def breaking(self):
        for number, row in enumerate(whole(self)):
            if breaks and number == breaks[0]:
                breaks.pop(0)
                raise ConnectionResetError("the server went away")
            yield row

    monkeypatch.setattr(datasets.IterableDataset, "__iter__", breaking)
    assert save_rows(address, tmp_path / "out").saved == 5 and not breaks
    assert [path.read_bytes() for path in sorted((tmp_path / "out").rglob("*.jpg"))] == [photo(n) for n in range(5)]


def test_what_is_in_the_cache_is_not_asked_for_again(tmp_path: Path):
    address = make_table(tmp_path / "faces", [stored(1)])
    find_sources(address, tmp_path / "cache")
    (tmp_path / "faces" / "train-00000.parquet").unlink()
    (source,) = find_sources(address, tmp_path / "cache")
    assert source.read() == photo(1)


def test_the_column_must_be_chosen_where_there_are_several(tmp_path: Path):
    (tmp_path / "two").mkdir()
    kinds = {"left": datasets.Image(decode=False), "right": datasets.Image(decode=False)}
    rows = {"left": [stored(1)], "right": [stored(2)]}
    datasets.Dataset.from_dict(rows, features=datasets.Features(kinds)).to_parquet(tmp_path / "two" / "train.parquet")
    address = f"datasets://{tmp_path}/two"
    with pytest.raises(UsageError, match="column=NAME; with pictures: left, right"):
        find_sources(address, tmp_path / "cache")
    (source,) = find_sources(f"{address}?column=right", tmp_path / "cache")
    assert source.read() == photo(2)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("datasets:///nowhere/at-all", "cannot be opened"),
        ("datasets://nobody/nothing", "cannot be opened"),
        ("datasets://a/b?splitt=train", "no choice 'splitt'; there are column, config, revision, split"),
        ("datasets://a/b/c", "give datasets://OWNER/NAME"),
        ("datasets://", "give datasets://OWNER/NAME"),
    ],
)
def test_what_is_no_data_set_is_one_line(address: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture):
    assert main(["--input", address, "--output", str(tmp_path / "out")]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert message in lines[-1] and not (tmp_path / "out").exists()


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DinogenError, match=r"pip install 'dinogen\[datasets\]'"):
        save_rows("datasets://a/b", tmp_path / "out")


def test_download_takes_a_data_set_too(tmp_path: Path, capsys: pytest.CaptureFixture):
    address = make_table(tmp_path / "faces", [stored(1), None, stored(2)])
    assert download(["--dataset", address, "--output", str(tmp_path / "out")]) == 0
    assert "2 pictures, 1 without-picture" in capsys.readouterr().out
    assert crop_folder(tmp_path / "out", tmp_path / "crops", workers=0).crops == 2
    assert parse("datasets://a/b?split=x&config=c").split == "x"


def test_a_data_set_larger_than_memory_is_streamed(tmp_path: Path):
    """A row at a time: no more than a few pictures are ever held."""
    address = make_table(tmp_path / "faces", [{"bytes": bytes([number]) * 1000, "path": None} for number in range(9)])
    rows = hub._rows_from(parse(address), hub._open(parse(address))["train"], "image", done=7)
    assert io.BytesIO(next(rows)["image"]["bytes"]).read(1) == b"\x07"


@pytest.mark.parametrize("line", ["{", "3"])
def test_a_damaged_list_of_rows_is_one_clear_line(tmp_path, line):
    (tmp_path / "rows.jsonl").write_text(line + "\n")
    with pytest.raises(DinogenError, match="rows.jsonl: damaged"):
        read_rows(tmp_path)
