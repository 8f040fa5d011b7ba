"""What becomes of crops when photos come, go, and change their names: content decides, whatever the interruption."""

import csv
import hashlib
import io
import json
import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import shards.journal
import shards.photo
from dinogen.errors import DinogenError, UsageError
from shards.crop import CropSummary, crop_folder
from shards.face import Face
from shards.options import CropOptions

LANDMARKS = np.array([[60.0, 70], [100, 70], [80, 90], [66, 112], [94, 112]])
KINDS = 12  # of photos


def picture(number: int, quality: int = 95) -> bytes:
    """A photo unlike the others; of another quality it looks the same and has other bytes."""
    grain = np.random.default_rng(number).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(grain).resize((160, 160), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


PICTURES = [picture(number // 2, 95 - 15 * (number % 2)) for number in range(KINDS)]


def sha256_of(payload: bytes) -> str:
    return hashlib.sha256(payload).hexdigest()


@pytest.fixture
def searched(monkeypatch) -> Counter[str]:
    """A detector that finds one face at once, anywhere, and counts the photos that it has searched."""
    counts: Counter[str] = Counter()

    def find(detector: object, image: Image.Image, *rest: object) -> list[Face]:
        counts[sha256_of(image.tobytes())] += 1
        return [Face(np.array([30.0, 30, 130, 140]), LANDMARKS, 0.99)]

    monkeypatch.setattr(shards.photo, "find_faces", find)
    monkeypatch.setattr(shards.photo, "make_detector", lambda *options: None)
    return counts


def pixels_of(payload: bytes) -> str:
    return sha256_of(Image.open(io.BytesIO(payload)).convert("RGB").tobytes())


def crops_in(folder: Path) -> dict[str, dict]:
    """The records of all crops by the sha256 of their photos; each has its picture, and no picture is alone."""
    records = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    found = {record["source_sha256"]: record for record in records}
    assert len(found) == len(records)
    assert {path.stem for path in folder.glob("*.jpg")} == {path.stem for path in folder.glob("*.json")}
    return found


def photos_in(folder: Path) -> dict[str, bytes]:
    paths = [path for path in sorted(folder.rglob("*.jpg")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def rows_of(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "report.csv").open(newline="", encoding="utf-8") as file:
        return {row["source"]: row for row in csv.DictReader(file)}


def check(photos: Path, crops: Path, drop: bool = False) -> None:
    """The crops are exactly those of the photos that are there: none twice, none lost, none of a photo that is gone."""
    there, found = photos_in(photos), crops_in(crops)
    contents = {sha256_of(payload): payload for payload in there.values()}
    if drop:
        kinds = Counter(PICTURES.index(contents[sha256]) // 2 for sha256 in found)
        assert set(kinds) == {PICTURES.index(payload) // 2 for payload in contents.values()}
        assert set(kinds.values()) <= {1}
    else:
        assert found.keys() == contents.keys()
    for sha256, record in found.items():
        name = record.get("path", record["source"])
        assert sha256_of(there[name]) == sha256 and name.endswith(record["source"])
        beside = (photos / name).with_suffix(".json")
        assert record["licence"] == (json.loads(beside.read_text())["licence"] if beside.exists() else None)
    rows = rows_of(crops)
    assert rows.keys() == there.keys()
    listed = [key for row in rows.values() for key in row["keys"].split()]
    assert sorted(listed) == sorted(path.stem for path in crops.glob("*.json"))
    assert not [path.name for path in crops.glob(".*")]


# ---- a random life of a folder


def add(rng: random.Random, photos: Path, names: list[str]) -> None:
    path = photos / rng.choice(["", "a/", "b/"]) / f"IMG_{rng.randrange(6)}.jpg"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(rng.choice(PICTURES))


def move(rng: random.Random, photos: Path, names: list[str]) -> None:
    if names:
        target = photos / rng.choice(["", "a/", "c/"]) / f"moved_{rng.randrange(4)}.jpg"
        target.parent.mkdir(exist_ok=True)
        os.replace(photos / rng.choice(names), target)


def swap(rng: random.Random, photos: Path, names: list[str]) -> None:
    if len(names) > 1:
        one, other = (photos / name for name in rng.sample(names, 2))
        os.replace(one, photos / "held")
        os.replace(other, one)
        os.replace(photos / "held", other)


def replace(rng: random.Random, photos: Path, names: list[str]) -> None:
    """Other bytes under the same name, of the same length, at the same time, as far as anybody can set it."""
    if names:
        path = photos / rng.choice(names)
        before = path.stat()
        payload = rng.choice(PICTURES)
        path.write_bytes(payload)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def delete(rng: random.Random, photos: Path, names: list[str]) -> None:
    for name in rng.sample(names, min(len(names), rng.randint(0, 2))):
        (photos / name).unlink()


def state(rng: random.Random, photos: Path, names: list[str]) -> None:
    if names:
        beside = (photos / rng.choice(names)).with_suffix(".json")
        beside.write_text(json.dumps({"license": rng.choice(["CC0", "CC-BY-4.0"])}).replace("license", "licence"))


CHANGES: list[Callable[[random.Random, Path, list[str]], None]] = [add, add, add, move, swap, replace, delete, state]


def crop(photos: Path, crops: Path, drop: bool) -> CropSummary | None:
    """None where no photo is left."""
    try:
        return crop_folder(photos, crops, CropOptions(duplicates="drop" if drop else "keep"), workers=0)
    except DinogenError as error:
        assert "no image in it" in str(error)
        return None


def crop_and_die(photos: Path, crops: Path, drop: bool, at: int) -> None:
    """Crop in a process that is killed before its change to the folder of that number."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    left = at

    def dying(change: Callable) -> Callable:
        def changed(*arguments: object, **options: object) -> object:
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return change(*arguments, **options)

        return changed

    try:
        shards.journal.Journal._append = dying(shards.journal.Journal._append)
        os.replace = dying(os.replace)
        Path.unlink = dying(Path.unlink)
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
            crop(photos, crops, drop)
    finally:
        os._exit(0)


def live(seed: int, rounds: int, folder: Path, searched: Counter[str], drop: bool) -> None:
    rng = random.Random(seed)
    photos, crops = folder / "photos", folder / "crops"
    photos.mkdir(parents=True)
    add(rng, photos, [])
    crop(photos, crops, drop)
    for _ in range(rounds):
        for change in rng.choices(CHANGES, k=rng.randint(1, 5)):
            change(rng, photos, sorted(photos_in(photos)))
        interrupted = rng.random() < 0.5
        if interrupted:
            crop_and_die(photos, crops, drop, rng.randrange(14))
        had = set() if interrupted else set(crops_in(crops))
        there = {sha256_of(payload) for payload in photos_in(photos).values()}
        if not interrupted and there and 2 * len(had & there) >= len(had) and rng.random() < 0.3:
            photos = photos.rename(folder / f"photos{rng.randrange(10**6)}")
        searched.clear()
        crop(photos, crops, drop)
        if there:
            check(photos, crops, drop)
        else:
            assert not crops_in(crops)
        again = {pixels_of(payload) for payload in photos_in(photos).values() if sha256_of(payload) in had}
        assert drop or set(searched.values()) <= {1}
        assert not again & searched.keys(), "a face that was found is not searched again"


@pytest.mark.parametrize("drop", [False, True])
@pytest.mark.parametrize("seed", [7])
def test_whatever_happens_the_crops_are_those_of_the_photos_that_are_there(tmp_path, searched, seed, drop):
    live(seed, 6, tmp_path, searched, drop)


@pytest.mark.slow
@pytest.mark.parametrize("drop", [False, True])
@pytest.mark.parametrize("seed", range(100, 150))
def test_in_many_more_lives_too(tmp_path, searched, seed, drop):
    live(seed, 25, tmp_path, searched, drop)


# ---- cases by name


def fill(folder: Path, *numbers: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        (folder / f"IMG_{number}.jpg").write_bytes(PICTURES[2 * number])
    return folder


def test_another_input_with_the_same_names_is_refused_and_nothing_is_touched(tmp_path, searched, capsys):
    fill(tmp_path / "camera1", 1, 2)
    crop_folder(tmp_path / "camera1", tmp_path / "crops", workers=0)
    before = {path.name: path.read_bytes() for path in (tmp_path / "crops").iterdir()}
    fill(tmp_path / "camera2", 3, 4)
    for name in ("IMG_3.jpg", "IMG_4.jpg"):
        (tmp_path / "camera2" / name).rename(tmp_path / "camera2" / f"IMG_{int(name[4]) - 2}.jpg")
        shutil.copystat(
            tmp_path / "camera1" / f"IMG_{int(name[4]) - 2}.jpg", tmp_path / "camera2" / f"IMG_{int(name[4]) - 2}.jpg"
        )
    with pytest.raises(UsageError, match="holds crops of --input .*camera1, and 0 of their 2 photos are in .*camera2"):
        crop_folder(tmp_path / "camera2", tmp_path / "crops", workers=0)
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "crops").iterdir()}


def test_a_part_of_the_input_is_another_input(tmp_path, searched):
    """What is not in it has not gone."""
    fill(tmp_path / "photos" / "anna", 0, 1, 2)
    fill(tmp_path / "photos" / "bob", 3)
    crop_folder(tmp_path / "photos", tmp_path / "crops", workers=0)
    with pytest.raises(UsageError, match="3 of their 4 photos are in .*anna"):
        crop_folder(tmp_path / "photos" / "anna", tmp_path / "crops", workers=0)
    check(tmp_path / "photos", tmp_path / "crops")


def test_the_remedy_works_a_folder_with_links_to_both(tmp_path, searched):
    for name, numbers in (("camera1", (1, 2)), ("camera2", (3, 4))):
        fill(tmp_path / name, *numbers)
    crop_folder(tmp_path / "camera1", tmp_path / "crops", workers=0)
    (tmp_path / "both").mkdir()
    for name in ("camera1", "camera2"):
        (tmp_path / "both" / name).symlink_to(tmp_path / name)
    searched.clear()
    assert crop_folder(tmp_path / "both", tmp_path / "crops", workers=0).crops == 4
    assert len(searched) == 2 and rows_of(tmp_path / "crops").keys() == {
        "camera1/IMG_1.jpg", "camera1/IMG_2.jpg", "camera2/IMG_3.jpg", "camera2/IMG_4.jpg",
    }  # fmt: skip


def test_a_photo_that_was_taken_out_is_named_and_its_crop_is_gone(tmp_path, searched, capsys):
    photos, crops = fill(tmp_path / "photos", 0, 1, 2), tmp_path / "crops"
    crop_folder(photos, crops, workers=0)
    (photos / "IMG_1.jpg").unlink()
    capsys.readouterr()
    crop_folder(photos, crops, workers=0)
    assert "1 photo with crops left" in (said := capsys.readouterr().err) and "IMG_1.jpg" in said
    check(photos, crops)


def test_a_photo_of_the_same_bytes_takes_over_the_crops_of_one_that_is_gone(tmp_path, searched):
    photos, crops = fill(tmp_path / "photos", 0, 1), tmp_path / "crops"
    shutil.copy(photos / "IMG_0.jpg", photos / "again.jpg")
    crop_folder(photos, crops, workers=0)
    assert rows_of(crops)["again.jpg"]["detail"] == "the same bytes as IMG_0.jpg"
    (photos / "IMG_0.jpg").unlink()
    searched.clear()
    crop_folder(photos, crops, workers=0)
    check(photos, crops)
    assert not searched and rows_of(crops)["again.jpg"]["cause"] == "accepted"


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_a_folder_that_cannot_be_opened_now_keeps_its_crops(tmp_path, searched):
    photos, crops = fill(tmp_path / "photos", 0), tmp_path / "crops"
    fill(photos / "closed", 1)
    crop_folder(photos, crops, workers=0)
    (photos / "closed").chmod(0)
    try:
        (photos / "IMG_0.jpg").unlink()
        crop_folder(photos, crops, workers=0)
        assert rows_of(crops)["closed/IMG_1.jpg"]["keys"] and rows_of(crops)["closed"]["cause"] == "unreadable"
    finally:
        (photos / "closed").chmod(0o755)
    crop_folder(photos, crops, workers=0)
    check(photos, crops)


def test_an_archive_that_is_cut_off_keeps_its_crops_until_it_is_whole_again(tmp_path, searched):
    photos, crops = tmp_path / "photos", tmp_path / "crops"
    shutil.make_archive(str(photos / "album"), "tar", fill(tmp_path / "in", 0, 1, 2))
    archive = photos / "album.tar"
    whole = archive.read_bytes()
    crop_folder(photos, crops, workers=0)
    archive.write_bytes(whole[: len(whole) // 2])
    crop_folder(photos, crops, workers=0)
    assert len(crops_in(crops)) == 3
    searched.clear()
    archive.write_bytes(whole)
    crop_folder(photos, crops, workers=0)
    assert len(crops_in(crops)) == 3 and not searched


def test_a_photo_that_a_list_names_but_that_is_deleted_takes_its_crop_with_it(tmp_path, searched):
    fill(tmp_path / "in", 0, 1)
    (tmp_path / "list.txt").write_text("in/IMG_0.jpg\nin/IMG_1.jpg\n")
    crop_folder(tmp_path / "list.txt", tmp_path / "crops", workers=0)
    (tmp_path / "in" / "IMG_0.jpg").unlink()
    summary = crop_folder(tmp_path / "list.txt", tmp_path / "crops", workers=0)
    assert summary.crops == 1 and summary.causes == {"unreadable": 1} and len(crops_in(tmp_path / "crops")) == 1


def test_photos_in_an_archive_are_the_same_as_in_a_folder(tmp_path, searched):
    photos = fill(tmp_path / "photos", 0, 1, 2)
    crop_folder(photos, tmp_path / "crops", workers=0)
    shutil.make_archive(str(tmp_path / "packed"), "zip", photos)
    searched.clear()
    assert crop_folder(tmp_path / "packed.zip", tmp_path / "crops", workers=0).crops == 3
    assert not searched


def test_an_older_crop_folder_is_taken_over(tmp_path, searched):
    """Its record says neither which input it is of, nor more of a photo than size and time."""
    photos, crops = fill(tmp_path / "photos", 0, 1, 2), tmp_path / "crops"
    (photos / "again.jpg").write_bytes(PICTURES[0])
    crop_folder(photos, crops, workers=0)
    lines = [json.loads(line) for line in (crops / "sources.jsonl").read_text().splitlines()]
    del lines[0]["input"]
    for line in lines[1:]:
        del line["like"]
        line["stamp"] = [line["stamp"][0], line["stamp"][2]]
    (crops / "sources.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (photos / "IMG_1.jpg").unlink()
    searched.clear()
    crop_folder(photos, crops, workers=0)
    check(photos, crops)
    assert not searched
