"""Photos of a Hugging Face data set, streamed into a folder: the bytes as they were stored, decoded by nobody else.

An address is `datasets://OWNER/NAME`, or `datasets://./FOLDER` and `datasets:///FOLDER` for one on this machine; with
`?split=train&config=…&column=image&revision=…` behind it where the data set leaves a choice.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qsl

import fsspec
from filelock import FileLock

from dinogen.data.transfer import one_line, retry
from dinogen.errors import DinogenError, UsageError
from dinogen.files import make_output_folder, plain_write_errors, write_bytes, write_json
from dinogen.progress import progress_bar
from shards.decode import kind_of
from shards.stated import SPELLINGS, stated_in

SCHEME = "datasets://"
CHOICES = {"split", "config", "column", "revision"}
ROWS = "rows.jsonl"  # a line for every row of the data set that was settled, then one that says it was the last
STATED = ("licence", "consent", "caption", "captions")  # what a photo's .json keeps of its row
CONTAINERS = ("zip://", "tar://")  # inside which a data set's own pictures may lie
MAX_BYTES = 1 << 29  # no photo is larger than half a gigabyte; reading must not exhaust memory
PER_FOLDER = 10_000


@dataclass(frozen=True)
class HubAddress:
    """A data set's name and what was chosen of it."""

    name: str
    split: str | None = None
    config: str | None = None
    column: str | None = None
    revision: str | None = None

    @property
    def is_local(self) -> bool:
        return self.name.startswith((".", "/"))


@dataclass(frozen=True)
class RowCounts:
    """Rows saved, how many of them by an earlier run, and rows without a picture."""

    saved: int
    resumed: int
    broken: int


def is_hub(text: str) -> bool:
    """Whether `text` is the address of a Hugging Face data set."""
    return text.startswith(SCHEME)


def parse(address: str) -> HubAddress:
    """Read an address.

    Raises:
        UsageError: it names no data set, or has a choice that there is not.
    """
    name, _, query = address.removeprefix(SCHEME).partition("?")
    choices = dict(parse_qsl(query))
    if unknown := set(choices) - CHOICES:
        raise UsageError(f"{address}: no choice '{min(unknown)}'; there are {', '.join(sorted(CHOICES))}")
    if not (name.startswith((".", "/")) or re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name)):
        raise UsageError(f"{address}: give {SCHEME}OWNER/NAME, or {SCHEME}./FOLDER for one on this machine")
    return HubAddress(name.rstrip("/"), **choices)


def cached_rows(address: str, cache: Path) -> Path:
    """The folder in the cache with the photos of a data set, streamed there unless they are there already."""
    folder = cache / "datasets" / hashlib.sha256(address.encode()).hexdigest()[:16]
    with FileLock(make_output_folder(folder) / ".lock"):  # waits, as several commands may want the same photos
        save_rows(address, folder)
    return folder


def save_rows(address: str, folder: Path) -> RowCounts:
    """Stream a data set's pictures into `folder`, each with a .json of its address and of what its row states.

    Running it again continues after the last row; once all are there, the data set is not asked again. Whoever calls
    it holds the folder's lock.

    Raises:
        UsageError: no data set by this address, or no picture in it.
        DinogenError: it cannot be read, or the package `datasets` is missing.
    """
    wanted = parse(address)
    settled, whole = read_rows(make_output_folder(folder))
    earlier = sum("file" in row for row in settled)
    if not whole:
        _stream(wanted, folder, settled)
    settled, _ = read_rows(folder)
    saved = sum("file" in row for row in settled)
    return RowCounts(saved, earlier, len(settled) - saved)


def read_rows(folder: Path) -> tuple[list[dict[str, Any]], bool]:
    """What became of each row, `file` or `cause` and `detail`; and whether the last one is among them."""
    path = folder / ROWS
    try:
        lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []  # without one half written
        rows = [dict(json.loads(line)) for line in lines]
    except (ValueError, TypeError) as error:
        raise DinogenError(f"{path}: damaged ({error}); delete its folder, and the photos are fetched again") from error
    whole = bool(rows) and rows[-1].get("last", False)
    return (rows[:-1] if whole else rows), whole


def _stream(wanted: HubAddress, folder: Path, settled: list[dict[str, Any]]) -> None:
    """Save the rows that are not `settled` yet, split by split."""
    splits = _open(wanted)
    path = folder / ROWS
    with plain_write_errors(path), path.open("a", encoding="utf-8") as journal:
        journal.truncate(sum(len(json.dumps(row)) + 1 for row in settled))
        with progress_bar(None, "fetch", initial=len(settled)) as bar:
            for split, stream in splits.items():
                column = picture_column(wanted, split, stream)
                done = sum(row["split"] == split for row in settled)
                for number, row in enumerate(_rows_from(wanted, stream, column, done), start=done):
                    journal.write(json.dumps(_save(wanted, folder, split, number, row, column)) + "\n")
                    journal.flush()
                    bar.update()
        journal.write(json.dumps({"last": True}) + "\n")


def _open(wanted: HubAddress) -> dict[str, Any]:
    """The streams of a data set by split."""
    try:
        import datasets
    except ImportError as error:
        raise DinogenError(f"{SCHEME}{wanted.name}: needs a package; run: pip install 'dinogen[datasets]'") from error
    datasets.disable_progress_bars()
    try:
        found: Any = datasets.load_dataset(
            wanted.name, wanted.config, split=wanted.split, revision=wanted.revision, streaming=True
        )
    except Exception as error:  # the package raises what its many parts raise
        raise UsageError(f"{SCHEME}{wanted.name}: cannot be opened ({one_line(error)})") from error
    return dict(found) if wanted.split is None else {wanted.split: found}


def picture_column(wanted: HubAddress, split: str, stream: Any) -> str:
    """The column with the pictures: the one that was chosen, or the only one."""
    import datasets

    known = stream.features or {}
    pictures = [name for name, kind in known.items() if isinstance(kind, datasets.Image)]
    if wanted.column is not None and wanted.column in known:
        return wanted.column
    if wanted.column is not None or len(pictures) != 1:
        listed = ", ".join(pictures) or "none"
        raise UsageError(f"{SCHEME}{wanted.name}: choose one column of split '{split}' by ?column=NAME; with pictures: "
                         f"{listed}; all: {', '.join(known)}")  # fmt: skip
    return pictures[0]


def _rows_from(wanted: HubAddress, stream: Any, column: str, done: int) -> Iterator[dict[str, Any]]:
    """Rows after the first `done`; a stream that breaks is taken up again after the last good row."""
    import datasets

    spellings = {spelling for name in STATED for spelling in SPELLINGS[name]}
    kept = [column, *(name for name in stream.features if name.strip().lower() in spellings and name != column)]
    stream = stream.select_columns(kept).cast_column(column, datasets.Image(decode=False))
    reached = done
    rows: Iterator[dict[str, Any]] | None = None
    end: dict[str, Any] = {}

    def following() -> dict[str, Any]:
        nonlocal rows
        rows = rows or iter(stream.skip(reached))
        try:
            return next(rows, end)
        except Exception:
            rows = None
            raise

    while (row := retry(f"{SCHEME}{wanted.name}", following)) is not end:
        reached += 1
        yield row


def _save(wanted: HubAddress, folder: Path, split: str, number: int, row: dict[str, Any], column: str) -> dict:
    """Save one row's picture; its line for the journal."""
    place = {"split": split, "row": number}
    picture = row[column] or {}
    try:
        payload = picture.get("bytes") or _read_path(wanted, picture.get("path"))
    except (OSError, ValueError) as error:
        return place | {"cause": "unreadable", "detail": one_line(error)}
    if payload is None:
        return place | {"cause": "empty-file", "detail": "a row without a picture"}
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", PurePosixPath(picture.get("path") or "").stem)[:80].strip("_")
    suffix = kind_of(payload[:256]) or ""
    file = f"{split}/{number // PER_FOLDER:04d}/{number:08d}{'-' if stem else ''}{stem}{suffix}"
    stated = {name: value for name in STATED if (value := texts_in(stated_in(row, name)))}
    address = (
        f"{SCHEME}{PurePosixPath(wanted.name).name if wanted.is_local else wanted.name}?split={split}&row={number}"
    )
    write_bytes(folder / file, payload)
    sha256 = hashlib.sha256(payload).hexdigest()
    write_json((folder / file).with_suffix(".json"), {"address": address, "sha256": sha256, **stated})
    return place | {"file": file}


def texts_in(value: Any) -> str | list[str] | None:
    """A text, or the texts in a list; None for anything else."""
    if isinstance(value, list):
        return [text for text in value if isinstance(text, str)]
    return value if isinstance(value, str) else None


def _read_path(wanted: HubAddress, path: str | None) -> bytes | None:
    """The bytes of a picture that lies beside the table: one of the data set's own files, never another."""
    if path is None:
        return None
    *containers, outermost = path.split("::")
    own = False
    with suppress(OSError):
        own = (
            Path(outermost).resolve().is_relative_to(Path(wanted.name).resolve())
            if wanted.is_local
            else outermost.startswith((f"hf://datasets/{wanted.name}@", f"hf://datasets/{wanted.name}/"))
        )
    if not own or ".." in outermost or not all(part.startswith(CONTAINERS) for part in containers):
        raise ValueError(f"names {path[:120]}, which is not the data set's own")
    opened: Any = fsspec.open(path, "rb")
    with opened as file:
        payload = file.read(MAX_BYTES + 1)
    if len(payload) > MAX_BYTES:
        raise ValueError(f"holds more than {MAX_BYTES:,} bytes")
    return payload
