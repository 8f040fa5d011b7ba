"""`report.csv` and `report.html`: what became of every photo, for programs and for people."""

import base64
import csv
import io
import re
import shutil
from collections import Counter
from html import unescape
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from markupsafe import escape
from PIL import Image, ImageFilter

import shards.report
from helpers.drawn_face import draw_face
from shards.archives import Member
from shards.crop import crop_folder
from shards.options import CropOptions
from shards.report import MEANING, MEASURES
from shards.sources import FileSource, MemberSource, RemoteSource


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path]:
    """Six photos, four fates."""
    photos, output = tmp_path_factory.mktemp("in"), tmp_path_factory.mktemp("out")
    for number in range(3):
        draw_face(height=150 + 20 * number, background=(60 * number, 110, 130)).save(photos / f"{number}.jpg")
    shutil.copy(photos / "2.jpg", photos / "again.jpg")
    draw_face().filter(ImageFilter.GaussianBlur(5)).save(photos / "soft.jpg")
    (photos / "not <b>one.jpg").write_bytes(b"text")
    crop_folder(photos, output, CropOptions(min_sharpness=2.0), workers=0)
    return photos, output


def rows(output: Path) -> dict[str, dict[str, str]]:
    with (output / "report.csv").open(newline="", encoding="utf-8") as file:
        return {row["source"]: row for row in csv.DictReader(file)}


def test_the_table_has_a_row_a_source_with_its_fate(folders):
    causes = Counter(row["cause"] for row in rows(folders[1]).values())
    assert causes == {"accepted": 3, "duplicate": 1, "blurred": 1, "not-an-image": 1}


def test_the_table_names_the_crops_and_what_was_measured(folders):
    row = rows(folders[1])["1.jpg"]
    assert (folders[1] / f"{row['keys']}.jpg").exists() and row["split"] == "train"
    assert all(row[name] for name in MEASURES)
    assert float(rows(folders[1])["soft.jpg"]["sharpness"]) < 2


def test_the_page_is_self_contained(folders):
    page = (folders[1] / "report.html").read_text(encoding="utf-8")
    assert not re.search(r'src="(?!data:)', page) and "<script" not in page and "<link" not in page
    assert "max-height" not in page  # captions are whole


def links(page: str) -> set[str]:
    return {unescape(link) for link in re.findall(r'<a href="([^"]*)"', page)}


def test_every_row_is_there_and_every_link_opens(folders):
    photos, output = folders
    page = (output / "report.html").read_text(encoding="utf-8")
    opened = {(output / unquote(link)).resolve() for link in links(page)}
    assert all(path.is_file() for path in opened)
    assert opened == {output / "report.csv", *photos.iterdir(), *output.glob("*-0.jpg")}
    assert len(re.findall("<li>", page)) == len(rows(output)) == 6


def test_a_thumbnail_opens_its_crop_or_its_photo(folders):
    photos, output = folders
    page = (output / "report.html").read_text(encoding="utf-8")
    tiles = re.findall(r'<a href="([^"]+)">\s*<img', page)
    opened = {(output / unquote(unescape(link))).resolve() for link in tiles}
    assert opened == {*output.glob("*-0.jpg"), photos / "again.jpg", photos / "soft.jpg"}


def test_many_rows_open_in_parts_and_the_rest_is_in_the_table(folders, monkeypatch):
    photos, output = folders
    monkeypatch.setattr(shards.report, "PART", 2)
    monkeypatch.setattr(shards.report, "LISTED", 2)
    crop_folder(photos, output, CropOptions(min_sharpness=2.0), workers=0)
    page = (output / "report.html").read_text(encoding="utf-8")
    assert "Photos 1 to 2 of 3" in page and "The other 1 are in" in page


@pytest.mark.parametrize("name", ["a b#1?.jpg", "javascript:alert(1).jpg", "ö%20.jpg"])
def test_no_name_breaks_a_link(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    link = shards.report.link_to(FileSource(name, str(tmp_path / name)), tmp_path)
    assert unquote(link) == name and not urlsplit(link).scheme and not urlsplit(link).query


def test_what_lies_in_an_archive_or_a_store_has_no_link():
    member = MemberSource("a.jpg", "x.zip", Member("a.jpg", 0, 1), None)
    assert shards.report.link_to(member, Path()) == ""
    assert shards.report.link_to(RemoteSource("a", "s3://bucket/a.jpg", "cache"), Path()) == ""
    assert shards.report.link_to(RemoteSource("a", "https://b/a.jpg?sig=1", "cache"), Path()) == "https://b/a.jpg"


def test_the_page_shows_crops_of_the_accepted_and_photos_of_the_rejected(folders):
    page = (folders[1] / "report.html").read_text(encoding="utf-8")
    parts = re.findall(r"<h2>(.*?)</h2>(.*?)(?=<h2>|$)", page, re.S)
    shown = {title: re.findall(r'base64,([^"]+)"', part) for title, part in parts if "base64" in part}
    assert {title: len(images) for title, images in shown.items()} == {"accepted": 3, "duplicate": 1, "blurred": 1}
    assert Image.open(io.BytesIO(base64.b64decode(shown["accepted"][0]))).size == (128, 128)


def test_the_page_counts_every_cause_and_explains_it(folders):
    page = (folders[1] / "report.html").read_text(encoding="utf-8")
    for cause, count in {"accepted": 3, "duplicate": 1, "blurred": 1, "not-an-image": 1}.items():
        assert re.search(rf'<td>\s*{cause}\s*<small>.*?</small>\s*</td><td class="number">\s*{count}\s*</td>', page)
        assert str(escape(MEANING[cause])) in page
    assert page.count("<svg") == len(MEASURES)


def test_names_are_text_not_markup(folders):
    page = (folders[1] / "report.html").read_text(encoding="utf-8")
    assert "<b>" not in page and "not &lt;b&gt;one.jpg" in page


def test_every_cause_that_the_code_can_give_is_explained():
    code = "".join(path.read_text() for path in Path(shards.__file__).parent.glob("*.py"))
    given = set(re.findall(r'Rejected\(\s*"([a-z-]+)"', code)) | set(re.findall(r'check\("([a-z-]+)"', code))
    assert given and given <= set(MEANING)


def test_a_second_run_updates_the_report(folders, tmp_path):
    shutil.copytree(folders[0], tmp_path / "in")
    shutil.copytree(folders[1], tmp_path / "out", copy_function=shutil.copy2)
    draw_face(height=210, skin=(150, 100, 80)).save(tmp_path / "in" / "new.jpg")
    crop_folder(tmp_path / "in", tmp_path / "out", CropOptions(min_sharpness=2.0), workers=0)
    assert len(rows(tmp_path / "out")) == 7
