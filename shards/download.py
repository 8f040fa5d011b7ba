"""Fetching pictures from lists of addresses, each with a record of where it came from."""

import csv
import hashlib
import io
import json
import os
import re
import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from dinogen.data.check import file_sha256
from dinogen.errors import DinogenError, UsageError
from dinogen.files import atomic_file, remove_leftovers, write_json
from dinogen.folder_lock import FolderLock
from dinogen.plain_text import read_text
from dinogen.progress import progress_bar
from shards.decode import Rejected, kind_of
from shards.hub import MAX_BYTES, SCHEME, is_hub, save_rows
from shards.remote import fetch_to, is_address, public_address
from shards.sources import LISTS, list_lines
from shards.stated import SPELLINGS, stated_in
from shards.table import to_cell

SAMPLES = tuple(
    f"https://images.unsplash.com/photo-{number}?w=1200&q=90&fm=jpg"
    for number in (
        "1507003211169-0a1dd7228f2d",
        "1552058544-f2b08422138a",
        "1544005313-94ddf0286df2",
        "1554151228-14d9def656e4",
        "1494790108377-be9c29b29330",
    )
)
SAMPLES_LICENCE = "Unsplash License"
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
COLUMNS: tuple[str, ...] = ("address", "cause", "detail", "file", "bytes", "sha256")
STATED = ("licence", "consent", "caption")  # what a picture's record keeps of its row
FETCHED = "fetched"
INCOMING = ".incoming"


@dataclass(frozen=True)
class Picture:
    """A picture to fetch, and what is stated of it: its licence, the person's consent, a caption."""

    address: str
    licence: str | None = None
    consent: str | None = None
    caption: str | None = None

    @property
    def stem(self) -> str:
        """Its file's name without the suffix: the last part of the address, and a few digits that make it unique."""
        name = PurePosixPath(unquote(urlsplit(self.address).path)).stem
        digest = hashlib.sha256(self.address.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        return re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:80].strip("_") + "-" + digest


@dataclass(frozen=True)
class DownloadSummary:
    """How many pictures are there; how many of them since an earlier run; counts of the causes of those missing."""

    fetched: int
    resumed: int
    causes: dict[str, int]

    def __str__(self) -> str:
        earlier = [f"{self.resumed} of them earlier"] if self.resumed else []
        return ", ".join([f"{self.fetched} pictures", *earlier, *(f"{n} {cause}" for cause, n in self.causes.items())])


def download(dataset: str, output: Path, workers: int = 8) -> DownloadSummary:
    """Fetch pictures into a folder: NAME.jpg, and NAME.json with its address, sha256 and what was stated of it.

    Running it again continues where it stopped, and tries again what could not be fetched.

    Args:
        dataset: `samples`; a list: a text with an address a line, or a .csv with a column `address` and perhaps
            `licence`, `consent` and `caption`, in any of their `SPELLINGS`; or a Hugging Face data set, OWNER/NAME or `datasets://…`.
        output: made if it is not there. `downloads.csv` in it has a row for every address of a list.
        workers: pictures fetched at a time.

    Raises:
        UsageError: no such list, or no address in it.
        DinogenError: not one picture could be fetched, or there is no room.
    """
    if is_hub(dataset) or (HUB_ID.fullmatch(dataset) and not Path(dataset).exists()
                           and Path(dataset).suffix.lower() not in {*LISTS, ".csv"}):  # fmt: skip
        return _download_hub(dataset if is_hub(dataset) else SCHEME + dataset, output)
    pictures = list(read_list(dataset))
    with FolderLock(output, "is downloading"):
        return _download_list(dataset, pictures, output, workers)


def _download_list(dataset: str, pictures: list[Picture], output: Path, workers: int) -> DownloadSummary:
    remove_leftovers(output)
    for leftover in (output / INCOMING).glob("*"):
        leftover.unlink()
    known = {picture.address: row for picture in pictures if (row := _known(picture, output))}
    todo = [picture for picture in pictures if picture.address not in known]
    fetched, taken = {}, 0
    with progress_bar(len(pictures), "download", initial=len(known)) as bar, ThreadPoolExecutor(workers) as pool:
        for row in _in_order(pool, lambda picture: _fetch(picture, output), todo, ahead=4 * workers):
            fetched[row["address"]] = row
            taken += row.get("bytes", 0)
            bar.set_postfix_str(f"{taken / 1e6:.1f} MB", refresh=False)
            bar.update()
            if row["cause"] != FETCHED:
                bar.write(f"{row['address']}: {row['cause']} ({row['detail']})", file=sys.stderr)
    rows = [known.get(picture.address) or fetched[picture.address] for picture in pictures]
    _write_table(output / "downloads.csv", rows)
    causes = Counter(row["cause"] for row in rows)
    there = causes.pop(FETCHED, 0)
    if not there:
        raise DinogenError(f"{dataset}: not one of {len(rows)} pictures could be fetched; see {output}/downloads.csv")
    return DownloadSummary(there, len(known), dict(causes))


def read_list(dataset: str) -> Iterator[Picture]:
    """The pictures of `samples` or of a list, each address once."""
    if dataset == "samples":
        yield from (Picture(address, SAMPLES_LICENCE) for address in SAMPLES)
        return
    path = Path(dataset)
    if not path.is_file():
        raise UsageError(
            f"{dataset}: no such list; --dataset takes samples, a .txt or .csv of addresses, or OWNER/NAME of a "
            "Hugging Face data set"
        )
    seen: set[str] = set()
    for picture in _rows_of_table(path) if path.suffix.lower() == ".csv" else _rows_of_text(path):
        if picture.address not in seen:
            seen.add(picture.address)
            yield picture
    if not seen:
        raise UsageError(f"{dataset}: no address in it; give one a line, such as https://example.org/photo.jpg")


def _rows_of_text(path: Path) -> Iterator[Picture]:
    yield from (Picture(line) for line in list_lines(path) if not line.startswith("#"))


def _rows_of_table(path: Path) -> Iterator[Picture]:
    rows = csv.DictReader(io.StringIO(read_text(path, errors="surrogateescape"), newline=""))
    try:
        known = {name.strip().lower(): name for name in reversed(rows.fieldnames or ())}
        column = next((known[name] for name in SPELLINGS["address"] if name in known), None)
        if column is None:
            raise UsageError(f"{path}: no column address or url in its first line")
        for row in rows:
            if row[column]:
                yield Picture(row[column].strip(), **{name: stated_in(row, name) for name in STATED})
    except csv.Error as error:
        raise UsageError(f"{path}: line {rows.line_num}: cannot be read ({error})") from error


def _in_order(pool: ThreadPoolExecutor, work: Any, items: Iterable[Picture], ahead: int) -> Iterator[dict[str, Any]]:
    """`work` on each item, a few at a time, results in order; an error stops what has not begun."""
    waiting: deque = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _fetch(picture: Picture, output: Path) -> dict[str, Any]:
    """Fetch one picture, then write its record: a picture without one is fetched again."""
    address = public_address(picture.address)
    incoming = output / INCOMING / picture.stem
    try:
        if not is_address(picture.address):
            raise Rejected("refused-address", "not an address")
        fetch_to(picture.address, incoming, MAX_BYTES)
    except UsageError as error:
        return {"address": picture.address, "cause": "refused-address", "detail": str(error)}
    except Rejected as rejected:
        return {"address": picture.address, "cause": rejected.cause, "detail": rejected.detail}
    with incoming.open("rb") as file:
        path = output / (picture.stem + (kind_of(file.read(256)) or ""))
    about = {"file": path.name, "bytes": incoming.stat().st_size, "sha256": file_sha256(incoming)}
    os.replace(incoming, path)
    stated = {name: value for name in STATED if (value := getattr(picture, name)) is not None}
    write_json(output / f"{picture.stem}.json", {"address": address, **about, **stated})
    return {"address": picture.address, "cause": FETCHED, "detail": "", **about}


def _known(picture: Picture, output: Path) -> dict[str, Any] | None:
    """The row of a picture that an earlier run has fetched."""
    try:
        about = json.loads((output / f"{picture.stem}.json").read_bytes())
        if (output / about["file"]).stat().st_size == about["bytes"]:
            return {"address": picture.address, "cause": FETCHED, "detail": "", **about}
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _write_table(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with atomic_file(path) as temporary:
        with temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", restval="")
            writer.writeheader()
            for row in rows:
                public = row | {"address": public_address(row["address"])}
                writer.writerow({name: to_cell(value) for name, value in public.items()})


def _download_hub(address: str, output: Path) -> DownloadSummary:
    with FolderLock(output, "is downloading"):
        counts = save_rows(address, output)
    return DownloadSummary(counts.saved, counts.resumed, {"without-picture": counts.broken} if counts.broken else {})
