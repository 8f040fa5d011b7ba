"""`dinogen crop` from the outside: a folder of photos in, a folder of crops and a record of every photo out."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dinogen.errors import DinogenError, UsageError
from dinogen.folder_lock import FolderLock
from helpers.drawn_face import EYES, add_face, draw_face
from launch.crop import main
from shards.align import carry
from shards.crop import crop_folder
from shards.detect import find_faces, make_detector
from shards.options import CropOptions
from shards.pool import WorkerDied, ordered_map

SHARED_PHOTOS = Path(__file__).parent.parent.parent / "shared" / "faces" / "photos"


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Twelve photos: one face each, but for `two.png` (two) and `wall.jpg` (none)."""
    folder = tmp_path_factory.mktemp("photos")
    for index in range(10):
        draw_face(height=110 + 12 * index, background=(20 * index, 90, 200 - 20 * index)).save(folder / f"{index}.jpg")
    two = draw_face((480, 320), (120, 160), 190)
    add_face(two, (350, 160), 120)
    two.save(folder / "two.png")
    Image.new("RGB", (200, 200), (90, 120, 90)).save(folder / "wall.jpg")
    return folder


@pytest.fixture(scope="module")
def crops(photos, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("crops")
    crop_folder(photos, output, workers=0)
    return output


def contents(folder: Path) -> dict[str, bytes]:
    """Every file; of the report all but its links, which depend on where the photos lie."""
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    return files | {"report.html": re.sub(rb'href="[^"]*"', b"", files["report.html"])}


def journal(folder: Path) -> dict[str, dict]:
    lines = (folder / "sources.jsonl").read_text().splitlines()[1:]
    return {record["source"]: record for record in map(json.loads, lines)}


def of_source(folder: Path, name: str) -> dict:
    (key,) = journal(folder)[name]["keys"]
    return json.loads((folder / f"{key}.json").read_text())


def run_on(folder: Path, output: Path, *flags: str) -> int:
    return main(["--input", str(folder), "--output", str(output), "--workers", "0", *flags])


def test_a_crop_is_a_plain_256_jpeg_with_its_description(photos, crops):
    digest = hashlib.sha256((photos / "3.jpg").read_bytes()).hexdigest()
    key = f"{digest[:16]}-0"
    image = Image.open(crops / f"{key}.jpg")
    assert (image.size, image.mode, image.format) == ((256, 256), "RGB", "JPEG")
    assert image.layer[0][1:3] == image.layer[1][1:3], "colour is not subsampled"
    assert not image.getexif()
    described = json.loads((crops / f"{key}.json").read_text())
    assert described["source"] == "3.jpg" and described["source_sha256"] == digest
    assert described["size"] == [320, 320] and described["score"] >= 0.9
    assert described["licence"] is None and described["consent"] is None
    assert np.shape(described["box"]) == (4,) and np.shape(described["landmarks"]) == (5, 2)
    assert np.shape(described["transform"]) == (2, 3)


def test_the_true_pupils_land_where_a_face_has_its_eyes(crops):
    described = of_source(crops, "5.jpg")
    pupils = 160 + 170 * np.array(EYES)
    in_crop = carry(pupils, np.array(described["transform"]))
    assert np.abs(pupils - described["landmarks"][:2]).max() < 8
    assert abs(in_crop[0, 1] - in_crop[1, 1]) < 4
    assert 70 < in_crop[0, 0] < 110 < 140 < in_crop[1, 0] < 185


def test_the_crop_shows_what_the_transform_says(photos, crops):
    """The pupil, black in the photo, is black at the carried place."""
    described = of_source(crops, "9.jpg")
    crop = np.asarray(Image.open(crops / f"{journal(crops)['9.jpg']['keys'][0]}.jpg").convert("L"), int)
    for pupil in carry(160 + 218 * np.array(EYES), np.array(described["transform"])):
        x, y = np.rint(pupil).astype(int)
        assert crop[y - 1 : y + 2, x - 1 : x + 2].mean() < 60


def test_every_source_has_its_fate(crops):
    causes = {name: record["cause"] for name, record in journal(crops).items()}
    assert causes.pop("wall.jpg") == "no-face"
    assert len(causes) == 11 and set(causes.values()) == {"accepted"}


def test_two_workers_make_the_same_bytes_as_none(photos, crops, tmp_path, monkeypatch):
    monkeypatch.setattr("shards.crop.PER_WORKER", 1)
    crop_folder(photos, tmp_path / "out", workers=2)
    assert contents(tmp_path / "out") == contents(crops)


def test_the_largest_face_comes_first_and_all_are_cut_on_demand(photos, crops, tmp_path):
    shutil.copy(photos / "two.png", tmp_path)
    summary = crop_folder(tmp_path, tmp_path.with_name("all"), CropOptions(faces="all"), workers=0)
    keys = journal(tmp_path.with_name("all"))["two.png"]["keys"]
    assert summary.crops == 2 and [key[-2:] for key in keys] == ["-0", "-1"]
    described = [json.loads((tmp_path.with_name("all") / f"{key}.json").read_text()) for key in keys]
    centres = [np.mean(entry["landmarks"], axis=0)[0] for entry in described]
    assert centres[0] == pytest.approx(120, abs=12) and centres[1] == pytest.approx(350, abs=12)
    assert journal(crops)["two.png"]["keys"] == keys[:1]


def test_photos_of_several_people_are_skipped_on_demand(photos, tmp_path):
    crop_folder(photos, tmp_path / "out", CropOptions(faces="skip"), workers=0)
    assert journal(tmp_path / "out")["two.png"]["cause"] == "several-faces"


def test_small_faces_are_dropped(photos, tmp_path):
    crop_folder(photos, tmp_path / "out", CropOptions(min_face=150), workers=0)
    causes = {name: record["cause"] for name, record in journal(tmp_path / "out").items()}
    assert causes["0.jpg"] in ("face-too-small", "no-face") and causes["9.jpg"] == "accepted"


def test_png_crops_are_lossless_and_complete(photos, tmp_path):
    shutil.copy(photos / "1.jpg", tmp_path)
    assert run_on(tmp_path, tmp_path.with_name("png"), "--format", "png") == 0
    (picture,) = tmp_path.with_name("png").glob("*.png")
    assert Image.open(picture).size == (256, 256) and picture.with_suffix(".json").exists()


def test_a_second_run_reads_nothing_again(photos, crops, capsys):
    before = {path.name: path.stat().st_mtime_ns for path in crops.glob("*-?.*")}
    summary = crop_folder(photos, crops, workers=0)
    assert summary.resumed == summary.sources == 12 and summary.crops == 11
    assert before == {path.name: path.stat().st_mtime_ns for path in crops.glob("*-?.*")}


def test_added_and_changed_photos_are_done_and_stale_crops_go(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "in")
    crop_folder(tmp_path / "in", tmp_path / "out", workers=0)
    stale = journal(tmp_path / "out")["2.jpg"]["keys"][0]
    draw_face(height=150, skin=(120, 80, 60)).save(tmp_path / "in" / "2.jpg")
    draw_face(height=160, skin=(160, 110, 80)).save(tmp_path / "in" / "new.jpg")
    summary = crop_folder(tmp_path / "in", tmp_path / "out", workers=0)
    assert (summary.sources, summary.crops, summary.resumed) == (13, 12, 11)
    assert not (tmp_path / "out" / f"{stale}.json").exists() and not (tmp_path / "out" / f"{stale}.jpg").exists()


def test_the_same_bytes_twice_give_one_crop(photos, tmp_path):
    for name in ("b.jpg", "a.jpg", "c.jpg"):
        shutil.copy(photos / "4.jpg", tmp_path / name)
    summary = crop_folder(tmp_path, tmp_path.with_name("once"), workers=0)
    assert summary.crops == 1 and summary.causes == {"duplicate": 2}
    assert of_source(tmp_path.with_name("once"), "a.jpg")["source"] == "a.jpg"


def test_a_sidecar_states_licence_and_consent(photos, tmp_path):
    shutil.copy(photos / "4.jpg", tmp_path / "me.jpg")
    shutil.copy(photos / "5.jpg", tmp_path / "you.jpg")
    (tmp_path / "me.json").write_text('{"licence": "CC0", "consent": "given 2024-05-01"}')
    (tmp_path / "you.json").write_text("{")
    summary = crop_folder(tmp_path, tmp_path.with_name("stated"), workers=0)
    described = of_source(tmp_path.with_name("stated"), "me.jpg")
    assert (described["licence"], described["consent"]) == ("CC0", "given 2024-05-01")
    assert summary.causes == {"bad-sidecar": 1}


def test_killed_anywhere_it_ends_as_if_undisturbed(photos, crops, tmp_path):
    command = [sys.executable, "-m", "launch.crop", "--input", photos, "--output", tmp_path / "out", "--workers", "0"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while process.poll() is None and len(list((tmp_path / "out").glob("*.json"))) < 3:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (tmp_path / "out" / ".leftover.jpg.tmp123").write_bytes(b"half")
    with (tmp_path / "out" / "sources.jsonl").open("a") as file:
        file.write('{"source": "half a li')
    assert 0 < len(journal_lines(tmp_path / "out")) < 13
    crop_folder(photos, tmp_path / "out", workers=0)
    assert contents(tmp_path / "out") == contents(crops)


def journal_lines(folder: Path) -> list[str]:
    return [line for line in (folder / "sources.jsonl").read_text().splitlines(keepends=True) if line.endswith("\n")]


def test_other_options_in_the_same_folder_are_refused(photos, crops):
    with pytest.raises(UsageError, match="faces largest"):
        crop_folder(photos, crops, CropOptions(faces="all"), workers=0)


def test_two_runs_in_one_folder_are_refused(photos, crops):
    with (
        FolderLock(crops, "is cropping"),
        pytest.raises(DinogenError, match=f"process {os.getpid()} .*is cropping here"),
    ):
        crop_folder(photos, crops, workers=0)


@pytest.mark.parametrize(
    ("make", "code", "says"),
    [
        (lambda folder: folder / "missing", 2, "no such folder"),
        (lambda folder: folder, 1, "no image"),
        (lambda folder: (folder / "a.jpg").write_bytes(b"text") and folder, 1, "1 not-an-image"),
        (lambda folder: Image.new("RGB", (99, 99)).save(folder / "b.jpg") or folder, 1, "1 no-face"),
    ],
    ids=["missing", "empty", "no picture", "no face"],
)
def test_nothing_to_crop_is_one_clear_line(make, code, says, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    assert run_on(make(tmp_path / "in"), tmp_path / "out") == code
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("dinogen crop: error:") and str(tmp_path / "in") in last and says in last


@pytest.mark.parametrize("flags", [["--min-face", "3"], ["--min-score", "2"], ["--workers", "-1"], ["--faces", "both"]])
def test_impossible_flags_are_usage_errors(flags, photos, tmp_path):
    assert run_on(photos, tmp_path, *flags) == 2


def test_an_output_inside_the_input_is_refused(photos, capsys):
    assert run_on(photos, photos / "crops") == 2
    assert "inside --input" in capsys.readouterr().err


def test_a_damaged_photo_never_stops_the_others(photos, tmp_path):
    for name in ("1.jpg", "2.jpg"):
        shutil.copy(photos / name, tmp_path / name)
    (tmp_path / "0.jpg").write_bytes((photos / "0.jpg").read_bytes()[:3000])
    summary = crop_folder(tmp_path, tmp_path.with_name("rest"), workers=0)
    assert summary.crops == 2 and summary.causes == {"damaged": 1}


def test_the_last_line_says_what_to_run_next(photos, tmp_path, capsys):
    shutil.copy(photos / "1.jpg", tmp_path)
    assert run_on(tmp_path, tmp_path.with_name("done")) == 0
    assert f"Next: dinogen pack --input {tmp_path.with_name('done')}" in capsys.readouterr().out


def test_a_large_photo_is_searched_coarsely_for_its_largest_face():
    small = draw_face((3000, 2400), (1500, 1100), 900)
    face = find_faces(make_detector("mtcnn"), small, min_face=48, min_score=0.9, largest_only=True)[0]
    expected = np.array([1500, 1100]) + 900 * np.array(EYES)
    assert np.abs(face.landmarks[:2] - expected).max() < 40


def test_a_small_face_in_a_large_photo_is_found():
    canvas = Image.new("RGB", (2400, 2000), (90, 110, 120))
    add_face(canvas, (700, 600), 90)
    (face,) = find_faces(make_detector("mtcnn"), canvas, min_face=48, min_score=0.9, largest_only=True)
    assert np.abs(face.landmarks[:2] - (np.array([700, 600]) + 90 * np.array(EYES))).max() < 6


class Doubler:
    """Doubles numbers; 13 kills the process that meets it."""

    def __call__(self, number: int) -> int:
        if number == 13:
            os.kill(os.getpid(), signal.SIGKILL)
        return 2 * number


def test_a_decoder_that_crashes_costs_one_photo():
    results = list(ordered_map(Doubler, range(10, 20), workers=2))
    assert [item for item, _ in results] == list(range(10, 20))
    assert [item for item, result in results if isinstance(result, WorkerDied)] == [13]
    assert all(result == 2 * item for item, result in results if item != 13)


@pytest.mark.skipif(not SHARED_PHOTOS.is_dir(), reason="needs ../shared/faces/photos")
def test_marked_pupils_land_on_the_detected_eyes_in_every_exif_orientation(tmp_path):
    from helpers.files import EXIF_ORIENTATION, turned_for_exif

    pupils = json.loads((SHARED_PHOTOS / "pupils.json").read_text())
    for name in pupils:
        for orientation in range(1, 9):
            exif = Image.Exif()
            exif[EXIF_ORIENTATION] = orientation
            stored = turned_for_exif(Image.open(SHARED_PHOTOS / name), orientation)
            stored.save(tmp_path / f"{orientation}_{name}", quality=95, exif=exif)
    output = tmp_path.with_name("marked")
    assert crop_folder(tmp_path, output, workers=0).crops == 32
    distances = []
    for path in output.glob("*.json"):
        described = json.loads(path.read_text())
        marked = list(pupils[described["source"][2:]].values())
        transform = np.array(described["transform"])
        left, right = carry(np.array(marked), transform)
        distances += np.hypot(*(np.array([left, right]) - carry(described["landmarks"][:2], transform)).T).tolist()
        assert abs(np.degrees(np.arctan2(right[1] - left[1], right[0] - left[0]))) < 4
    assert np.mean(distances) < 3


def test_a_folder_from_before_an_option_was_there_is_continued(photos, tmp_path):
    shutil.copy(photos / "1.jpg", tmp_path)
    output = tmp_path.with_name("old")
    crop_folder(tmp_path, output, workers=0)
    lines = journal_lines(output)
    header = {key: value for key, value in json.loads(lines[0]).items() if key != "size"}
    (output / "sources.jsonl").write_text(json.dumps(header) + "\n" + "".join(lines[1:]))
    assert crop_folder(tmp_path, output, workers=0).resumed == 1
    with pytest.raises(UsageError, match="size 256"):
        crop_folder(tmp_path, output, CropOptions(size=512), workers=0)


@pytest.mark.parametrize("line", ["{", "3", '{"source": "1.jpg"}', "null"])
def test_a_damaged_record_of_a_crop_folder_is_one_clear_line(photos, tmp_path, line, capsys):
    (tmp_path / "sources.jsonl").write_text(json.dumps(vars(CropOptions())) + f"\n{line}\n")
    assert run_on(photos, tmp_path) == 1
    assert "sources.jsonl: damaged at byte" in capsys.readouterr().err
