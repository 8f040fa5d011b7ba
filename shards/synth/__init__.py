"""Portraits of nobody: a folder of pictures with captions, to try everything without anybody's photo."""

import io
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from dinogen.errors import DinogenError
from dinogen.files import write_bytes, write_json
from dinogen.folder_lock import FolderLock
from dinogen.progress import progress
from shards.options import require
from shards.pool import WorkerDied, ordered_map
from shards.synth.captions import row_of, write_captions
from shards.synth.draw import draw_person
from shards.synth.person import Person, in_studio, sample_person

STYLE = 5  # raise it with every change to the drawing: portraits of an older style are drawn anew
SIGNATURE = re.compile(rb"dinogen synth, style (\d+), (seed \d+, (?:studio, )?portrait \d+)(?!\d)")
JPEG_QUALITY = 95
# Anybody may do anything with a drawing, and shards and model cards can say so.
TERMS = {"licence": "CC0-1.0", "consent": "not needed: nobody is shown"}


@dataclass(frozen=True)
class Series:
    """An endless row of portraits.

    Args:
        seed: which people.
        studio: all before plain light walls, in soft light, nearly facing the camera, and made up for the stage.
    """

    seed: int
    studio: bool = False

    def name(self, index: int) -> str:
        """What tells portrait `index` from all others; part of the comment inside its JPEG."""
        return f"seed {self.seed}, {'studio, ' if self.studio else ''}portrait {index}"

    def sit(self, index: int) -> tuple[Person, np.random.Generator]:
        """Who portrait `index` shows, and the source of chance for drawing it."""
        rng = np.random.default_rng([self.seed, index])
        person = sample_person(rng)
        return (in_studio(person) if self.studio else person), rng


def file_name(index: int) -> str:
    return f"{index:06d}.jpg"


def encode_portrait(series: Series, index: int) -> tuple[bytes, Person]:
    """Portrait `index` of a series as JPEG bytes, and who it shows: a pure function of the two."""
    person, rng = series.sit(index)
    jpeg = io.BytesIO()
    picture = Image.fromarray(draw_person(person, rng))
    comment = f"dinogen synth, style {STYLE}, {series.name(index)}".encode()
    picture.save(jpeg, "JPEG", quality=JPEG_QUALITY, comment=comment)
    return jpeg.getvalue(), person


def synth_folder(output: Path, count: int, seed: int = 0, workers: int | None = None, studio: bool = False) -> None:
    """Draw `count` portraits of 512×512 pixels into `output`: 000000.jpg … and captions.csv.

    A 000000.json beside each states its licence. The files depend on `seed` and `studio` alone. Portraits that are
    already there, whole, are kept.

    Args:
        seed, studio: see `Series`.
        workers: processes to draw with; all cores if None.

    Raises:
        UsageError: a number that cannot be right.
        DinogenError: `output` cannot be written to, or holds a picture of the same name that is not ours.
    """
    output = Path(output)
    require("count", count, 1, 1_000_000)
    require("seed", seed, 0)
    require("workers", 1 if workers is None else workers, 1)
    with FolderLock(output, "is drawing portraits"):
        _draw_missing(output, count, Series(seed, studio), workers)


def _draw_missing(output: Path, count: int, series: Series, workers: int | None) -> None:
    missing = [index for index in range(count) if not _is_drawn(output / file_name(index), series, index)]
    workers = min(workers or available_cores(), max(len(missing), 1))
    results = ordered_map(partial(_make_drawer, output, series, frozenset(missing)), range(count), workers)
    rows = []
    for index, row in progress(results, count, "portraits"):
        if isinstance(row, WorkerDied):
            raise DinogenError(f"{output / file_name(index)}: its process was killed; try fewer --workers")
        rows.append(row)
    write_captions(output / "captions.csv", rows)


def available_cores() -> int:
    """Cores that this process may use, which in a container are often fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _is_drawn(path: Path, series: Series, index: int) -> bool:
    """Whether the portrait is there, whole. A damaged or older one of ours counts as missing.

    Raises:
        DinogenError: another picture has its name; it is not touched.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise DinogenError(f"{path}: cannot be read ({error.strerror}); choose another --output") from error
    if not content:
        return False
    signed = SIGNATURE.search(content[:1024])
    if not signed or signed[2].decode() != series.name(index):
        raise DinogenError(f"{path}: not {series.name(index)}; choose another --output, or empty this one")
    return int(signed[1]) == STYLE and content.endswith(b"\xff\xd9")


def _make_drawer(output: Path, series: Series, missing: frozenset[int]) -> Callable[[int], dict[str, str]]:
    return partial(_draw_file, output, series, missing)


def _draw_file(output: Path, series: Series, missing: frozenset[int], index: int) -> dict[str, str]:
    """Write portrait `index` and its terms where they are missing; give its row of captions.csv."""
    terms = (output / file_name(index)).with_suffix(".json")
    if not terms.exists():
        write_json(terms, TERMS)
    if index in missing:
        jpeg, person = encode_portrait(series, index)
        write_bytes(output / file_name(index), jpeg)
    else:
        person, _ = series.sit(index)
    return row_of(file_name(index), person)
