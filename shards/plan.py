"""Which crops go into which shard, and how a crop is read."""

import csv
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from dinogen.advice import command_line, no_folder
from dinogen.data.mistaken import steps_before
from dinogen.data.schema import CROP_SIZES, IMAGE_SUFFIXES, KEY_PATTERN, RECORD_SUFFIX, SampleRecord, stated
from dinogen.errors import DinogenError, UsageError, first_line
from dinogen.pyramid import StagedSpec
from shards.captions import Captions
from shards.names import Photo, PhotoNames
from shards.table import from_cell

REPORT_NAME = "report.csv"
MIRROR_MARK = "-m"  # at the end of a mirrored sample's key


@dataclass(frozen=True)
class Item:
    """A sample to be: the crop's path, and whether it is to be mirrored."""

    image: Path
    mirrored: bool = False


@dataclass(frozen=True)
class ShardPlan:
    """A shard to be: its file name, its split, and its samples in order."""

    name: str
    split: str
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Crop:
    """A crop as it goes into a shard: the bytes of its picture and of its record."""

    key: str
    suffix: str
    image: bytes
    record: bytes


def plan_shards(crops: Path, shard_size: int, mirror: bool = False) -> list[ShardPlan]:
    """Share the crops of a folder out among shards: sorted by split, then by key; no shard mixes splits.

    Args:
        crops: folder of crops.
        shard_size: samples in a shard.
        mirror: whether every crop makes a second sample, its mirror image.

    Raises:
        UsageError: no folder, or no crops in it.
        DinogenError: a crop with a strange name, without its KEY.json, or there as .jpg and .png.
    """
    by_split: dict[str, list[Item]] = {}
    for image in find_crops(crops):
        items = by_split.setdefault(read_record(image).split, [])
        items += [Item(image), Item(image, mirrored=True)] if mirror else [Item(image)]
    plans: list[ShardPlan] = []
    for split, items in sorted(by_split.items()):
        for first in range(0, len(items), shard_size):
            plans.append(ShardPlan(f"shard-{len(plans):06d}.tar", split, tuple(items[first : first + shard_size])))
    return plans


def find_crops(crops: Path) -> list[Path]:
    """The pictures of a crop folder, sorted by key."""
    if not crops.is_dir():
        raise UsageError(no_folder(crops, "--input takes what dinogen crop has written"))
    if steps := steps_before(crops, "crops"):
        raise UsageError(f"{crops}: {steps}")
    suffixes = {f".{suffix}" for suffix in IMAGE_SUFFIXES}
    by_key: dict[str, Path] = {}
    for image in crops.iterdir():
        if image.suffix not in suffixes or image.name.startswith("."):
            continue
        if not KEY_PATTERN.fullmatch(image.stem):
            raise DinogenError(f"{image}: not named by a key (letters, digits, '-', '_'); is this a folder of crops?")
        if image.stem in by_key:
            raise DinogenError(f"{image}: the crop is here as {by_key[image.stem].name} too; remove one of them")
        by_key[image.stem] = image
    if not by_key:
        raise UsageError(
            f"{crops}: no crops here; make some: {command_line('crop', input='data/photos', output=crops)}"
        )
    return [by_key[key] for key in sorted(by_key)]


def crop_size_of(image: Path) -> int:
    """The side of a crop in pixels.

    Raises:
        DinogenError: not a picture, or not of a size that crops have.
    """
    try:
        with Image.open(image, formats=("JPEG", "PNG")) as opened:
            width, height = opened.size
    except (OSError, SyntaxError, ValueError) as error:
        raise DinogenError(f"{image}: cannot be decoded ({error}); cut the crop again") from error
    if width != height or width not in CROP_SIZES:
        sizes = ", ".join(map(str, CROP_SIZES))
        raise DinogenError(f"{image}: is {width}×{height} pixels; crops are square, with a side of {sizes}")
    return width


def read_record(image: Path) -> SampleRecord:
    """The record beside a crop."""
    path = image.with_suffix(f".{RECORD_SUFFIX}")
    try:
        return SampleRecord.from_bytes(path.read_bytes())
    except OSError as error:
        raise DinogenError(f"{path}: cannot be read ({error.strerror}); cut the crops again") from error
    except DinogenError as error:
        raise DinogenError(f"{path}: {error}; cut the crops again") from error


def names_of(crops: Path, plans: Sequence[ShardPlan]) -> PhotoNames:
    """The names of all photos that a crop folder was made from, those that gave no crop included.

    A photo's paths are those of the report: also where the same bytes lay under a second name. Without a report there
    is the file name alone.
    """
    records = (read_record(item.image) for plan in plans for item in plan.items if not item.mirrored)
    photos = dict.fromkeys(Photo(record.source, record.source_sha256) for record in records)
    by_sha256 = {photo.sha256: photo for photo in photos}
    listed: list[tuple[str, Photo | None]] = []
    report = crops / REPORT_NAME
    if report.is_file():
        try:
            with open(report, encoding="utf-8-sig", newline="") as file:
                rows = list(csv.DictReader(file))
            listed = [(from_cell(row["source"] or ""), by_sha256.get(row.get("sha256") or "")) for row in rows]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
            raise DinogenError(f"{report}: cannot be read ({first_line(error)}); crop again, or remove it") from error
    known = {photo for _, photo in listed}
    return PhotoNames([*listed, *((photo.source, photo) for photo in photos if photo not in known)])


def read_crop(item: Item, captions: Captions) -> Crop:
    """A crop's bytes, unchanged, and its record with the captions of its source."""
    image, record = item.image, read_record(item.image)
    found = captions.get(Photo(record.source, record.source_sha256)) or record.captions
    record = replace(record, captions=found, mirrored=item.mirrored)
    key = image.stem + (MIRROR_MARK if item.mirrored else "")
    try:
        return Crop(key, image.suffix[1:], image.read_bytes(), record.to_bytes())
    except OSError as error:
        raise DinogenError(f"{image}: cannot be read ({error.strerror}); cut the crops again") from error


class RecordCounts:
    """How many records have captions, and which licence and consent."""

    def __init__(self) -> None:
        self.captioned = 0
        self.licences: Counter[str] = Counter()
        self.consents: Counter[str] = Counter()

    def add(self, record: SampleRecord) -> None:
        self.captioned += bool(record.captions)
        self.licences[stated(record.licence)] += 1
        self.consents[stated(record.consent)] += 1

    def to_dict(self) -> dict[str, Any]:
        """As a `ShardRecord` has them."""
        return {"captioned": self.captioned, "licences": dict(self.licences), "consents": dict(self.consents)}


class InputDigest:
    """All that a shard is made from as one hash: the spec, how the teacher computes, every crop with its record.

    Attributes:
        counted: what the crops' records say so far.
    """

    def __init__(self, specs: StagedSpec, how: str = ""):
        self._hash = hashlib.sha256((specs.fingerprint + how).encode())
        self.counted = RecordCounts()

    def add(self, crop: Crop) -> None:
        for part in (crop.key.encode(), crop.suffix.encode(), crop.image, crop.record):
            self._hash.update(len(part).to_bytes(8, "little") + part)
        self.counted.add(SampleRecord.from_bytes(crop.record))

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def digest_of(plan: ShardPlan, captions: Captions, specs: StagedSpec, how: str = "") -> str:
    """The input digest of a shard, from its crops as they are now."""
    digest = InputDigest(specs, how)
    for item in plan.items:
        digest.add(read_crop(item, captions))
    return digest.hexdigest()
