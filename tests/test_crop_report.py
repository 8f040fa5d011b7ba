"""`report.csv` and `report.html`: what became of every photo, for programs and for people."""

import base64
import csv
import io
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image, ImageFilter

import shards
from helpers.drawn_face import draw_face
from shards.crop import crop_folder
from shards.options import CropOptions
from shards.report import MEANING, MEASURES


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
    assert not re.search(r'(src|href)="(?!data:)', page) and "<script" not in page


def test_the_page_shows_crops_of_the_accepted_and_photos_of_the_rejected(folders):
    page = (folders[1] / "report.html").read_text(encoding="utf-8")
    parts = re.findall(r"<h2>(.*?)</h2>(.*?)(?=<h2>|$)", page, re.S)
    shown = {title: re.findall(r'base64,([^"]+)"', part) for title, part in parts if "base64" in part}
    assert {title: len(images) for title, images in shown.items()} == {"accepted": 3, "duplicate": 1, "blurred": 1}
    assert Image.open(io.BytesIO(base64.b64decode(shown["accepted"][0]))).size == (128, 128)


def test_the_page_counts_every_cause_and_explains_it(folders):
    page = (folders[1] / "report.html").read_text(encoding="utf-8")
    for cause, count in {"accepted": 3, "duplicate": 1, "blurred": 1, "not-an-image": 1}.items():
        assert f'<td>{cause}</td><td class="n">{count}</td>' in page and MEANING[cause] in page
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
