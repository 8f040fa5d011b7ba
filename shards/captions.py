"""Captions from a table: source file name → what the picture shows."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

from dinogen.errors import UsageError


def read_captions(path: Path) -> dict[str, str]:
    """Read a .csv with columns `file` and `caption` (others are ignored), or a .jsonl with those keys.

    Returns:
        Caption by the source's file name; rows without a caption are left out.

    Raises:
        UsageError: missing, of another kind, without these columns, or with two captions for a file.
    """
    readers = {".csv": _rows_of_csv, ".jsonl": _rows_of_jsonl}
    if path.suffix.lower() not in readers:
        raise UsageError(f"{path}: captions come as .csv (columns file,caption) or .jsonl, not '{path.suffix}'")
    captions: dict[str, str] = {}
    try:
        for line, name, caption in readers[path.suffix.lower()](path):
            if not isinstance(name, str) or not isinstance(caption, str | None):
                raise UsageError(f"{path}: line {line}: 'file' and 'caption' must be texts")
            if captions.get(name, caption) != caption:
                raise UsageError(f"{path}: line {line}: a second, different caption for '{name}'; keep one")
            if caption:
                captions[name] = caption
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: cannot be read as UTF-8 text ({error})") from error
    return captions


def _rows_of_csv(path: Path) -> Iterator[tuple[int, str, str | None]]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        missing = {"file", "caption"} - set(rows.fieldnames or ())
        if missing:
            raise UsageError(f"{path}: no column {' and no column '.join(sorted(missing))} in its first line")
        for row in rows:
            yield rows.line_num, row["file"], row["caption"]


def _rows_of_jsonl(path: Path) -> Iterator[tuple[int, str, str | None]]:
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    row = json.loads(line)
                    yield number, row["file"], row["caption"]
                except (ValueError, KeyError, TypeError) as error:
                    raise UsageError(f"{path}: line {number}: not an object with 'file' and 'caption'") from error
