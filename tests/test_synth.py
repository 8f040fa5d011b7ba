"""Portraits of nobody: the same for the same seed, described truly, and faces to a detector."""

import csv
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dinogen.errors import DinogenError, UsageError
from launch.synth import main
from shards.captions import read_captions
from shards.names import Photo, PhotoNames
from shards.stated import read_sidecar
from shards.synth import Series, encode_portrait, synth_folder
from shards.synth.captions import CAPTIONS, COLUMNS, PUPILS, TRAITS, caption_of
from shards.synth.person import Person, sample_person
from shards.synth.phrases import paraphrases_of

FACES = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty portraits of seed 0, drawn once for all the tests that only look."""
    path = tmp_path_factory.mktemp("synth") / "portraits"
    synth_folder(path, FACES, seed=0)
    return path


@pytest.fixture(scope="module")
def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "captions.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def found(folder: Path) -> list[tuple[float, np.ndarray]]:
    """For each portrait, the score of the surest face that MTCNN finds, and its five landmarks `[5, 2]`."""
    from facenet_pytorch import MTCNN

    detector = MTCNN(keep_all=True, min_face_size=60, device="cpu")
    faces = []
    for path in sorted(folder.glob("*.jpg")):
        _, scores, landmarks = detector.detect(Image.open(path), landmarks=True)
        if scores[0] is None:
            faces.append((0.0, np.zeros((5, 2))))
        else:
            best = int(np.argmax(scores))
            faces.append((float(scores[best]), np.asarray(landmarks[best], dtype=float)))
    return faces


def pupils_of(row: dict[str, str]) -> np.ndarray:
    """The true pupils `[2, 2]`, the image's left one first, (x, y)."""
    return np.array([float(row[name]) for name in PUPILS]).reshape(2, 2)


@cache
def people(count: int) -> list[Person]:
    return [sample_person(np.random.default_rng([0, index])) for index in range(count)]


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_portrait_is_a_jpeg_of_512_pixels(folder: Path):
    assert sorted(path.name for path in folder.glob("*.jpg")) == [f"{index:06d}.jpg" for index in range(FACES)]
    for path in folder.glob("*.jpg"):
        with Image.open(path) as image:
            assert (image.format, image.size, image.mode) == ("JPEG", (512, 512), "RGB")
            image.load()


def test_the_files_do_not_depend_on_the_number_of_workers(tmp_path: Path):
    for workers in (1, 2):
        synth_folder(tmp_path / str(workers), 4, seed=3, workers=workers)
    assert bytes_of(tmp_path / "1") == bytes_of(tmp_path / "2")


def test_a_portrait_is_a_function_of_seed_and_index():
    first = encode_portrait(Series(3), index=1)
    assert encode_portrait(Series(3), index=1) == first
    assert encode_portrait(Series(4), index=1)[1] != first[1]
    assert encode_portrait(Series(3), index=2)[1] != first[1]


def test_every_portrait_has_its_row_with_a_caption_every_trait_and_the_pupils(rows: list[dict[str, str]]):
    assert [row["file"] for row in rows] == [f"{index:06d}.jpg" for index in range(FACES)]
    for row in rows:
        assert tuple(row) == COLUMNS
        assert all(row[name] for name in COLUMNS)


def test_captions_say_what_the_traits_say():
    for person in people(300):
        caption = caption_of(person)
        assert f" {person.person} with " in caption
        assert ("bald" if person.hair == "bald" else person.hair_colour) in caption
        assert (f"{person.glasses} glasses" in caption) == (person.glasses != "none")
        assert ("a beard" in caption) == (person.beard == "full beard")
        assert f"{person.clothes_colour} {person.clothes}" in caption
        assert ("striped" in caption) == (person.pattern == "striped")


def test_captions_are_plain_sentences():
    assert all("{" not in text and "  " not in text and "none" not in text for text in map(caption_of, people(300)))
    assert len(set(map(caption_of, people(300)))) > 290


@cache
def told(count: int) -> list[tuple[Person, list[str]]]:
    """People and their paraphrases."""
    return [(person, paraphrases_of(f"{index:06d}.jpg", person)) for index, person in enumerate(people(count))]


NEGATED = r"(no|not wear|not wearing|without)"


@pytest.mark.parametrize(
    "words, true",
    [
        (r"bespectacled|(and|with|wears|is wearing|in|,)( round| square| thin)? (glasses|spectacles)",
         lambda person: person.glasses != "none"),
        (rf"{NEGATED} (glasses|spectacles)", lambda person: person.glasses == "none"),
        (r"(?<!without )\ba (full )?beard|bearded", lambda person: person.beard == "full beard"),
        (r"clean-shaven|beardless|no beard|without a beard", lambda person: person.beard == "none"),
        (r"dark(-haired| hair)", lambda person: person.hair_colour in ("black", "dark brown")),
        (r"(light|fair)(-haired| hair)", lambda person: person.hair_colour in ("blond", "white")),
        (r"bald|no hair", lambda person: person.hair == "bald"),
        (r"dark(-skinned| skin)", lambda person: person.skin in ("brown", "dark")),
        (r"(light|fair)(-skinned| skin)", lambda person: person.skin in ("pale", "light")),
        (r"old\b|elderly|older", lambda person: person.age == "old"),
        (r"smil", lambda person: person.mouth == "smiling"),
    ],
)  # fmt: skip
def test_paraphrases_say_only_what_is_true(words: str, true: Callable[[Person], bool]):
    said = [(true(person), text) for person, texts in told(400) for text in texts if re.search(rf"\b({words})", text)]
    assert len(said) > 30 and all(truth for truth, _ in said), [text for truth, text in said if not truth]


def test_paraphrases_put_the_same_in_several_words():
    texts = [text for _, some in told(400) for text in some]
    for words in ("glasses", "spectacles", "bespectacled", "a beard", "bearded", "clean-shaven", "without a beard",
                  "no beard", "light-skinned", "light skin", "fair skin", "dark-haired", "dark hair"):  # fmt: skip
        assert sum(words in text for text in texts) >= 5, words
    assert len(set(texts)) > 0.7 * len(texts)
    assert all(re.fullmatch(r"[a-z-]+(,? [a-z-]+)+", text) for text in texts)


def test_some_wordings_are_left_for_prompts():
    texts = [text for _, some in told(400) for text in some]
    for words in ("someone", "eyewear", "specs", "clean-shaven person", "complexion", "facial hair"):
        assert not any(re.search(rf"\b{words}\b", text) for text in texts)


def test_paraphrases_depend_on_the_file_and_the_traits_alone():
    person = people(1)[0]
    expected = [
        "the face of a young woman with pale skin, dark hair and thin glasses, looking serious",
        "the woman has fair skin and black hair and is wearing thin spectacles",
        "a young bespectacled light-skinned woman",
        "a picture of a woman with pale skin",
    ]
    assert paraphrases_of("000000.jpg", person) == expected != paraphrases_of("000001.jpg", person)


def test_packing_takes_all_captions_of_a_portrait(folder: Path, rows: list[dict[str, str]]):
    photos = [Photo(row["file"], row["file"]) for row in rows]
    captions = read_captions(folder / "captions.csv", PhotoNames((photo.source, photo) for photo in photos))
    assert captions[photos[3]] == tuple(rows[3][name] for name in CAPTIONS) and len(CAPTIONS) == 5


def test_every_trait_takes_several_values():
    for trait in TRAITS:
        assert len({getattr(person, trait) for person in people(300)}) >= 2, trait


def test_poses_leave_something_to_align():
    some = people(300)
    rolls, places = np.array([person.roll for person in some]), np.array([person.centre for person in some])
    assert np.abs(rolls).max() <= 15.0 and rolls.std() > 3.0
    assert (places.std(axis=0) > 5.0).all()


def test_people_differ_even_when_very_small(folder: Path):
    small = [Image.open(path).resize((32, 32), Image.Resampling.BOX) for path in sorted(folder.glob("*.jpg"))]
    pixels = np.stack([np.asarray(image, dtype=np.float32).ravel() for image in small])
    distance = np.sqrt(((pixels[:, None] - pixels[None]) ** 2).mean(axis=-1))
    assert distance[~np.eye(FACES, dtype=bool)].min() > 15.0  # of 255 levels


def test_pupils_are_dark_and_lie_in_the_white_of_the_eyes(folder: Path, rows: list[dict[str, str]]):
    for row in rows:
        grey = np.asarray(Image.open(folder / row["file"]).convert("L"), dtype=np.float32)
        for x, y in pupils_of(row):
            column, line = round(x), round(y)
            # Around the pupil's middle, where no highlight reaches; the eye's white is to its left and right.
            pupil = np.median(grey[line - 1 : line + 2, column - 1 : column + 2])
            beside = grey[line - 2 : line + 3, column - 20 : column + 21].max()
            assert pupil < 75 and pupil < 0.5 * beside, row["file"]


def test_mtcnn_is_sure_of_a_face_in_nearly_all(found: list[tuple[float, np.ndarray]]):
    assert sum(score >= 0.9 for score, _ in found) >= 0.95 * FACES


def test_mtcnn_sees_the_eyes_where_the_pupils_are(found: list[tuple[float, np.ndarray]], rows: list[dict[str, str]]):
    errors = np.array(
        [
            np.linalg.norm(landmarks[:2] - pupils_of(row), axis=1).mean()
            for (score, landmarks), row in zip(found, rows)
            if score >= 0.9
        ]
    )
    assert np.median(errors) < 4.0 and errors.mean() < 5.0


def test_running_again_keeps_what_is_whole_and_draws_what_is_missing(tmp_path: Path):
    synth_folder(tmp_path, 3, workers=1)
    whole = bytes_of(tmp_path)
    kept = (tmp_path / "000000.jpg").stat().st_mtime_ns
    (tmp_path / "000001.jpg").unlink()
    (tmp_path / "000002.jpg").write_bytes(whole["000002.jpg"][:5000])
    (tmp_path / "captions.csv").unlink()
    synth_folder(tmp_path, 3, workers=1)
    assert bytes_of(tmp_path) == whole
    assert (tmp_path / "000000.jpg").stat().st_mtime_ns == kept


def test_each_portrait_states_its_terms(tmp_path: Path):
    (tmp_path / "000000.json").write_text('{"licence": "mine"}')
    synth_folder(tmp_path, 2, workers=1)
    stated = [read_sidecar((tmp_path / name).read_bytes()) for name in ("000000.json", "000001.json")]
    assert [each["licence"] for each in stated] == ["mine", "CC0-1.0"], "what is there is kept"
    assert stated[1]["consent"] == "not needed: nobody is shown"


def test_portraits_of_an_older_style_are_drawn_anew(tmp_path: Path):
    synth_folder(tmp_path, 1, workers=1)
    new = bytes_of(tmp_path)
    (tmp_path / "000000.jpg").write_bytes(re.sub(rb"style \d+", b"style 1", new["000000.jpg"]))
    synth_folder(tmp_path, 1, workers=1)
    assert bytes_of(tmp_path) == new


def test_a_larger_count_continues_the_series(tmp_path: Path):
    synth_folder(tmp_path / "long", 3, workers=1)
    synth_folder(tmp_path / "grown", 1, workers=1)
    synth_folder(tmp_path / "grown", 3, workers=1)
    assert bytes_of(tmp_path / "grown") == bytes_of(tmp_path / "long")


def test_a_killed_run_leaves_only_whole_portraits(tmp_path: Path):
    output = tmp_path / "portraits"
    command = [sys.executable, "-m", "launch.synth", "--count", "60", "--output", str(output), "--workers", "1"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while len(list(output.glob("0*.jpg"))) < 3 and process.poll() is None:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (output / "captions.csv").exists()
    for path in output.glob("0*.jpg"):
        assert path.read_bytes() == encode_portrait(Series(0), int(path.stem))[0]


def test_a_picture_that_is_not_ours_is_never_overwritten(tmp_path: Path):
    Image.new("RGB", (8, 8)).save(tmp_path / "000001.jpg")
    before = bytes_of(tmp_path)
    with pytest.raises(DinogenError, match="000001.jpg"):
        synth_folder(tmp_path, 3, workers=1)
    assert bytes_of(tmp_path) == before


def test_another_seed_does_not_mix_into_a_folder(tmp_path: Path):
    synth_folder(tmp_path, 1, seed=0, workers=1)
    with pytest.raises(DinogenError, match="seed 1"):
        synth_folder(tmp_path, 1, seed=1, workers=1)


@pytest.mark.parametrize("bad", [{"count": 0}, {"count": -3}, {"count": 2, "seed": -1}, {"count": 2, "workers": 0}])
def test_numbers_that_cannot_be_right_are_refused_before_anything_is_written(tmp_path: Path, bad: dict):
    with pytest.raises(UsageError, match=f"--{list(bad)[-1]}"):
        synth_folder(tmp_path / "new", **bad)
    assert not (tmp_path / "new").exists()


def test_the_verb_exits_with_2_for_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert main(["--count", "0", "--output", str(tmp_path / "new")]) == 2
    assert "--count" in capsys.readouterr().err
    assert main(["--cuont", "3", "--output", str(tmp_path / "new")]) == 2
    assert "did you mean 'count'" in capsys.readouterr().err
    assert main(["--count", "3"]) == 2


def test_the_verb_exits_with_1_where_it_cannot_write(tmp_path: Path, capsys: pytest.CaptureFixture):
    (tmp_path / "file").write_text("in the way")
    assert main(["--count", "1", "--output", str(tmp_path / "file")]) == 1
    error = capsys.readouterr().err
    assert str(tmp_path / "file") in error and "--output" in error and "Traceback" not in error


def test_the_verb_says_what_it_wrote_and_what_to_run_next(tmp_path: Path, capsys: pytest.CaptureFixture):
    output = tmp_path / "portraits"
    assert main(["--count", "1", "--output", str(output), "--seed", "5"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert "1 portrait" in last and f"dinogen crop --input {output} --output " in last


def test_in_the_studio_the_same_people_stand_before_plain_light_walls(tmp_path):
    outside, inside = (encode_portrait(Series(3, studio), 1) for studio in (False, True))
    assert inside[0] != outside[0]
    assert (inside[1].hair, inside[1].skin_rgb) == (outside[1].hair, outside[1].skin_rgb)
    assert inside[1].background == "plain" and abs(inside[1].yaw) <= 8
    synth_folder(tmp_path, 1, workers=1, studio=True)
    with pytest.raises(DinogenError, match="not seed 0, portrait 0"):
        synth_folder(tmp_path, 1, workers=1)
