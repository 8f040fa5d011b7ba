"""Captions from a table or from .txt files: source picture → what it shows, in one way or several."""

import csv
import io
import json
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from dinogen.errors import UsageError

Captions = Mapping[str, tuple[str, ...]]  # by the source's file name, with or without its suffix

CAPTION_COLUMN = re.compile(r"caption(_\d+)?")
Line = tuple[int, Any, list[Any]]  # its number, the file that it names, and its captions


def read_captions(path: Path, sources: Collection[str] | None = None) -> Captions:
    """Read captions of source pictures. White space counts as one space; empty captions are left out.

    Args:
        path: a .csv with columns `file` and `caption`, and perhaps `caption_2`, `caption_3` and so on (others are
            ignored); a .jsonl with the key `file`, and `caption`, a text or a list, or `captions`; or a folder of
            .txt files, searched recursively, each named after its source, photo.txt for photo.jpg, with a caption a
            line. A table may have several lines for a file.
        sources: file names that there are: a table with captions for others is refused. None takes all.

    Returns:
        The captions, different ones, in order.

    Raises:
        UsageError: missing, of another kind, without these columns, with a line that cannot be read or names a file
            that there is not, or without .txt files.
    """
    if path.is_dir():
        return _read_sidecars(path, sources)
    readers = {".csv": _rows_of_csv, ".jsonl": _rows_of_jsonl}
    if path.suffix.lower() not in readers:
        raise UsageError(f"{path}: captions come as .csv (columns file,caption), .jsonl or a folder of NAME.txt")
    known = None if sources is None else {*sources, *(PurePath(source).stem for source in sources)}
    captions: dict[str, dict[str, None]] = {}
    for line, name, texts in readers[path.suffix.lower()](path, read_text(path)):
        if not isinstance(name, str) or not all(isinstance(text, str) for text in texts):
            raise UsageError(f"{path}: line {line}: 'file' and 'caption' must be texts")
        if known is not None and name not in known:
            raise UsageError(
                f"{path}: line {line}: no photo '{name}' among those that the crops were made from; correct the name "
                "or take the line out"
            )
        captions.setdefault(name, {}).update(dict.fromkeys(filter(None, map(_tidied, texts))))
    return {name: tuple(texts) for name, texts in captions.items() if texts}


def captions_of(source: str, captions: Captions) -> tuple[str, ...]:
    """The captions of a source picture by its file name, or else by that name without its suffix."""
    return captions.get(source) or captions.get(PurePath(source).stem, ())


def read_text(path: Path) -> str:
    """A file in UTF-8, with or without a byte-order mark.

    Raises:
        UsageError: it cannot be read, or is in another encoding; names the line.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UsageError(f"{path}: line {line}: cannot be read as UTF-8 text; save it as UTF-8") from error


def _tidied(caption: str) -> str:
    return " ".join(caption.split())


def _read_sidecars(folder: Path, sources: Collection[str] | None) -> Captions:
    captions: dict[str, tuple[str, ...]] = {}
    paths = sorted(path for path in folder.rglob("*.txt") if not path.name.startswith("."))
    if not paths:
        raise UsageError(f"{folder}: no .txt files here; captions of photo.jpg are read from photo.txt")
    stems = None if sources is None else {PurePath(source).stem for source in sources}
    if stems is not None and stems.isdisjoint(path.stem for path in paths):
        raise UsageError(f"{folder}: no .txt file has the name of a photo that the crops were made from")
    for path in paths:
        if stems is not None and path.stem not in stems:
            continue  # a licence or notes, as they lie beside photos
        # Not by `splitlines`, which ends a line at characters that may stand within one.
        texts = tuple(dict.fromkeys(filter(None, map(_tidied, read_text(path).split("\n")))))
        if texts and captions.setdefault(path.stem, texts) != texts:
            raise UsageError(
                f"{path}: a second file with other captions for '{path.stem}'; take a table with file,caption"
            )
    return captions


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
