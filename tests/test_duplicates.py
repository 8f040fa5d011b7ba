"""The same photo twice, also resized or recompressed: found, and never in two splits."""

import io
import json

import numpy as np
import pytest
from PIL import Image, ImageFilter

from helpers.drawn_face import draw_face
from shards import duplicates
from shards.crop import crop_folder
from shards.duplicates import LookIndex, look_of, split_of
from shards.options import CropOptions


def scene(seed: int, size: int = 320) -> Image.Image:
    """Smooth random colours, like a photo out of focus."""
    grain = np.random.default_rng(seed).integers(0, 255, (9, 9, 3), dtype=np.uint8)
    return Image.fromarray(grain).resize((size, size), Image.Resampling.BICUBIC)


def recompressed(image: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(stream).convert("RGB")


CHANGES = {
    "recompressed": lambda image: recompressed(image, 40),
    "halved": lambda image: image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(1)),
    "cut by a hundredth": lambda image: image.crop((1, 1, image.width - 2, image.height - 2)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_same_photo_changed_a_little_is_found(change):
    index = LookIndex()
    for seed in range(20):
        index.add(look_of(scene(seed)))
    assert index.near(look_of(CHANGES[change](scene(7)))) == [7]


def test_other_photos_are_not_found():
    index = LookIndex()
    for seed in range(50):
        assert index.near(look_of(scene(seed))) == []
        index.add(look_of(scene(seed)))


def test_the_same_hash_alone_is_not_enough():
    """Portraits of different people before the same wall share their 64-bit hash; their thumbnails tell them apart."""
    one, other = look_of(scene(1)), look_of(scene(2))
    index = LookIndex()
    index.add(one[:16] + other[16:])
    assert index.near(one) == []


def test_the_sorted_index_finds_what_comparing_each_finds(monkeypatch):
    rng = np.random.default_rng(0)
    looks = [look_of(scene(seed)) for seed in range(30)]
    variants = []
    for look in looks * 12:  # some bits of the hash flipped: 0 to 9 of 64
        changed = np.unpackbits(np.frombuffer(bytes.fromhex(look), np.uint8))
        changed[rng.choice(64, rng.integers(10), replace=False)] ^= 1
        variants.append(np.packbits(changed).tobytes().hex())
    slow, fast = LookIndex(), LookIndex()
    for variant in variants:
        slow.add(variant)
    monkeypatch.setattr(duplicates, "TAIL", 40)
    for variant in variants:
        fast.add(variant)
    assert fast.bands and not slow.bands
    found = [fast.near(look) for look in looks]
    assert found == [slow.near(look) for look in looks]
    assert all(3 <= len(numbers) < 12 for numbers in found)


def test_the_split_is_decided_by_the_bytes_alone():
    digests = [f"{number * 2654435761 % 2**32:064x}" for number in range(4000)]
    splits = [split_of(digest, 0.1) for digest in digests]
    assert 0.08 < splits.count("val") / 4000 < 0.12
    assert all(split_of(digest, 0.2) == "val" for digest, split in zip(digests, splits, strict=True) if split == "val")
    assert {split_of(digest, 0.0) for digest in digests} == {"train"}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Ten photos, each once more recompressed."""
    folder = tmp_path_factory.mktemp("pairs")
    for number in range(10):
        photo = scene(100 + number)
        photo.paste(draw_face((220, 260), height=150), (50, 30))
        photo.save(folder / f"{number}.png")
        photo.save(folder / f"{number}-again.jpg", quality=70)
    return folder


def test_photos_that_look_the_same_are_kept_in_one_split(pairs, tmp_path):
    summary = crop_folder(pairs, tmp_path / "out", CropOptions(val_fraction=0.5), workers=0)
    assert summary.crops == 20
    described = [json.loads(path.read_text()) for path in (tmp_path / "out").glob("*.json")]
    splits = {entry["source"]: entry["split"] for entry in described}
    assert set(splits.values()) == {"train", "val"}
    assert all(splits[f"{number}.png"] == splits[f"{number}-again.jpg"] for number in range(10))


def test_photos_that_look_the_same_are_dropped_on_demand(pairs, tmp_path):
    summary = crop_folder(pairs, tmp_path / "out", CropOptions(duplicates="drop"), workers=0)
    assert summary.crops == 10 and summary.causes == {"near-duplicate": 10}


def test_a_photo_that_looks_like_two_splits_joins_neither(pairs, tmp_path, monkeypatch):
    """It would carry what was seen in training into the validation split."""
    monkeypatch.setattr("shards.journal.Journal._looking_like", late(6))
    summary = crop_folder(pairs, tmp_path / "out", CropOptions(val_fraction=0.5), workers=0)
    assert summary.causes == {"near-duplicate": 14}


def late(first: int):
    """`_looking_like` that sees nothing among the `first` photos, and all of them afterwards."""
    return lambda journal, look: list(journal.looked) if len(journal.looked) >= first else []
