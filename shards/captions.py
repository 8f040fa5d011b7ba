"""Captions from a table or from .txt files: source picture → what it shows, in one way or several."""

import csv
import io
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dinogen.advice import counted
from dinogen.errors import UsageError
from dinogen.files import is_hidden
from dinogen.plain_text import read_text
from shards.names import Parts, Photo, PhotoNames, agree, parts_of, without_suffix

Captions = Mapping[Photo, tuple[str, ...]]

CAPTION_COLUMN = re.compile(r"caption(_\d+)?")
Line = tuple[int, Any, list[Any]]  # its number, the file that it names, and its captions


def read_captions(path: Path, names: PhotoNames) -> Captions:
    """Read captions of source pictures, and say how many of them have found their picture.

    White space counts as one space; empty captions are left out.

    Args:
        path: a .csv with columns `file` and `caption`, and perhaps `caption_2`, `caption_3` and so on (others are
            ignored); a .jsonl with the key `file`, and `caption`, a text or a list, or `captions`; or a folder of
            .txt files, searched recursively, each named after its source, photo.txt for photo.jpg, with a caption a
            line. A table may have several lines for a file. A file is named by its name or its path.
        names: of the photos that the crops were made from; those that gave no crop mean None.

    Returns:
        The captions, different ones, in order.

    Raises:
        UsageError: missing, of another kind, without these columns, with a line that cannot be read or could mean
            several photos, or nothing in it belongs to a crop.
    """
    if path.is_dir():
        return _read_sidecars(path, names)
    readers = {".csv": _rows_of_csv, ".jsonl": _rows_of_jsonl}
    if path.suffix.lower() not in readers:
        raise UsageError(f"{path}: captions come as .csv (columns file,caption), .jsonl or a folder of NAME.txt")
    matched = _Matched(path, names, "row")
    for line, name, texts in readers[path.suffix.lower()](path, read_text(path)):
        if not isinstance(name, str) or not all(isinstance(text, str) for text in texts):
            raise UsageError(f"{path}: line {line}: 'file' and 'caption' must be texts")
        matched.add(f"{path}: line {line}", name, name, filter(None, map(_tidied, texts)))
    return matched.captions()


class _Matched:
    """Captions on their way to the photos that they belong to.

    Args:
        path: of the table or folder, for messages.
        names: of the photos.
        unit: what a row is called in messages.
    """

    def __init__(self, path: Path, names: PhotoNames, unit: str):
        self.path, self.names, self.unit = path, names, unit
        self.rows = self.to_crops = self.without_crop = 0
        self.stray = ""  # the first name of no photo
        self.found: dict[Photo, dict[str, None]] = {}
        self.named: dict[Parts, tuple[str, Parts]] = {}  # by which name a path was found first, and where that stood

    def add(self, where: str, shown: str, name: str, texts: Iterator[str]) -> None:
        """Take a row.

        Args:
            where: it stands, for messages.
            shown: its name, for messages.
            name: of its photo.
            texts: its captions.

        Raises:
            UsageError: it could mean photos of several folders, or one that a row for another folder means too.
        """
        self.rows += 1
        entries = self.names.find(name)
        photos = dict.fromkeys(photo for _, photo in entries if photo is not None)
        if len({parts[:-1] for parts, _ in entries}) > 1 and len(photos) > 1:
            among = " and ".join("/".join(parts) for parts, _ in entries[:2])
            raise UsageError(f"{where}: '{shown}' may be {among}; write the path as in report.csv")
        captions = list(texts)
        mine = without_suffix(parts_of(name))
        for parts, photo in entries:
            if photo is None:
                continue
            # By its path: copies of a photo have paths of their own, and each may have a row.
            place, other = self.named.setdefault(without_suffix(parts), (where, mine))
            if not agree(mine, other):
                raise UsageError(
                    f"{where}: '{shown}' and '{'/'.join(other)}' ({place}) both mean the photo {photo.source}; take "
                    "the one out that is another photo's"
                )
            self.found.setdefault(photo, {}).update(dict.fromkeys(captions))
        self.to_crops += bool(photos)
        self.without_crop += bool(entries) and not photos
        self.stray = self.stray or ("" if entries else shown)

    def captions(self) -> Captions:
        """All of them; says how many rows have found a photo.

        Raises:
            UsageError: no row belongs to a crop.
        """
        photos = {photo for _, photo in self.names.known if photo is not None}
        remarks = [f"{self.without_crop} of photos that gave no crop"] if self.without_crop else []
        strangers = self.rows - self.to_crops - self.without_crop
        remarks += [f"{strangers} of no photo, such as '{self.stray}'"] if strangers else []
        if not self.to_crops:
            example = next((path for path, photo in self.names.known if photo is not None), "photo.jpg")
            what = (
                f"none of {counted(self.rows, self.unit)} belongs to a crop" if self.rows else f"no {self.unit} in it"
            )
            said = f" ({', '.join(remarks)})" if remarks else ""
            raise UsageError(f"{self.path}: {what}{said}; photos are named like '{example}'")
        captions = {photo: tuple(texts) for photo, texts in self.found.items() if texts}
        remark = "".join(f"; {remark}" for remark in remarks)
        print(
            f"{self.path}: {self.to_crops} of {counted(self.rows, self.unit)} matched{remark}. {len(captions)} of "
            f"{counted(len(photos), 'photo')} with crops have captions from there.",
            file=sys.stderr,
        )
        return captions


def _tidied(caption: str) -> str:
    return " ".join(caption.split())


def _read_sidecars(folder: Path, names: PhotoNames) -> Captions:
    paths = [path for path in sorted(folder.rglob("*.txt")) if not is_hidden(path.relative_to(folder))]
    if not paths:
        raise UsageError(f"{folder}: no .txt files here; captions of photo.jpg are read from photo.txt")
    matched = _Matched(folder, names, ".txt file")
    taken: dict[Parts, tuple[str, ...]] = {}
    for path in paths:
        # By the whole path first: the folder may be one of several that hold photos of equal names.
        below = str(path.relative_to(folder).with_suffix(""))
        name = next((name for name in (str(path.absolute().with_suffix("")), below) if names.find(name)), below)
        if not names.find(name):
            matched.add(str(path), str(path.relative_to(folder)), name, iter(()))  # a licence or notes, beside photos
            continue
        # Not by `splitlines`, which ends a line at characters that may stand within one.
        texts = tuple(dict.fromkeys(filter(None, map(_tidied, read_text(path).split("\n")))))
        for parts, photo in names.find(name):
            if texts and photo is not None and taken.setdefault(without_suffix(parts), texts) != texts:
                raise UsageError(
                    f"{path}: a second file with other captions for '{path.stem}'; take a table with file,caption"
                )
        matched.add(str(path), str(path.relative_to(folder)), name, iter(texts))
    return matched.captions()


def _rows_of_csv(path: Path, text: str) -> Iterator[Line]:
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    try:
        header = next(rows, [])
        columns = [number for number, name in enumerate(header) if CAPTION_COLUMN.fullmatch(name)]
        missing = [name for name in ("caption", "file") if name not in header]
        if missing:
            raise UsageError(f"{path}: line 1: no column {' and no column '.join(missing)}; separate them by commas")
        file = header.index("file")
        line = rows.line_num + 1
        for row in rows:
            if row and len(row) != len(header):
                raise UsageError(
                    f"{path}: line {line}: {len(row)} cells instead of {len(header)}; a caption with a comma stands in "
                    'double quotes, and a quote in it is written ""'
                )
            if row:
                yield line, row[file], [row[number] for number in columns]
            line = rows.line_num + 1
    except csv.Error as error:
        raise UsageError(f"{path}: line {line}: cannot be read ({error}); are its double quotes in pairs?") from error


def _rows_of_jsonl(path: Path, text: str) -> Iterator[Line]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                row = json.loads(line)
                found = row["captions"] if "captions" in row else row["caption"]
                yield number, row["file"], found if isinstance(found, list) else [] if found is None else [found]
            except (ValueError, KeyError, TypeError) as error:
                raise UsageError(f"{path}: line {number}: not an object with 'file' and 'caption'") from error
