"""A folder of photos or crops that was given where something later was wanted."""

from itertools import islice
from pathlib import Path
from typing import Literal

from dinogen.advice import command_line, sibling
from dinogen.data.schema import IMAGE_SUFFIXES, PHOTO_SUFFIXES, RECORD_SUFFIX, SampleRecord
from dinogen.errors import DinogenError
from dinogen.files import is_hidden

LOOKED_AT = 1000  # files after which it is clear enough what a folder holds


def steps_before(folder: Path, wanted: Literal["crops", "shards"]) -> str | None:
    """What a folder holds in place of `crops` or `shards`, and what to run first; None if it holds neither.

    Args:
        folder: that was given.
        wanted: `crops` or `shards`.
    """
    crops = folder
    steps = []
    found = "crops" if holds_crops(folder) else "photos" if holds_photos(folder) else None
    if found in (None, wanted):
        return None
    if found == "photos":
        crops = sibling(folder, "photos", "crops")
        steps.append(command_line("crop", input=folder, output=crops))
    if wanted == "shards":
        steps.append(command_line("pack", input=crops, output=sibling(crops, "crops", "shards")))
    return f"holds {found}, not {wanted}; run first: {' && '.join(steps)}"


def holds_crops(folder: Path) -> bool:
    """Whether there is a picture with a crop's record beside it."""
    suffixes = {f".{suffix}" for suffix in IMAGE_SUFFIXES}
    pictures = (path for path in folder.glob("*") if path.suffix in suffixes and not is_hidden(path.name))
    return any(_has_record(path) for path in islice(pictures, LOOKED_AT))


def holds_photos(folder: Path) -> bool:
    """Whether there is a picture in a folder or below."""
    found = (path for path in islice(folder.rglob("*"), LOOKED_AT) if not is_hidden(path.relative_to(folder)))
    return any(path.suffix.lower() in PHOTO_SUFFIXES for path in found)


def _has_record(picture: Path) -> bool:
    try:
        return bool(SampleRecord.from_bytes(picture.with_suffix(f".{RECORD_SUFFIX}").read_bytes()))
    except (OSError, DinogenError):
        return False
