"""Captions from a table or from .txt files: source picture → what it shows."""

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath

from dinogen.errors import UsageError


def read_captions(path: Path) -> dict[str, str]:
    """Read captions of source pictures.

    Args:
        path: a .csv with columns `file` and `caption` (others are ignored); a .jsonl with those keys; or a folder of
            .txt files, searched recursively, each named after its source: photo.txt for photo.jpg.

    Returns:
        Caption by the source's file name, of .txt files without its suffix; the empty ones are left out.

    Raises:
        UsageError: missing, of another kind, without these columns or without .txt files, or with two captions for
            a file.
    """
    if path.is_dir():
        return _read_sidecars(path)
    readers = {".csv": _rows_of_csv, ".jsonl": _rows_of_jsonl}
    if path.suffix.lower() not in readers:
        raise UsageError(f"{path}: captions come as .csv (columns file,caption), .jsonl or a folder of NAME.txt")
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


def caption_of(source: str, captions: Mapping[str, str]) -> str | None:
    """The caption of a source picture by its file name, or else by that name without its suffix."""
    return captions.get(source, captions.get(PurePath(source).stem))


def _read_sidecars(folder: Path) -> dict[str, str]:
    captions: dict[str, str] = {}
    paths = sorted(path for path in folder.rglob("*.txt") if not path.name.startswith("."))
    if not paths:
        raise UsageError(f"{folder}: no .txt files here; captions of photo.jpg are read from photo.txt")
    for path in paths:
        try:
            caption = " ".join(path.read_text(encoding="utf-8-sig").split())
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{path}: cannot be read as UTF-8 text ({error})") from error
        if caption and captions.setdefault(path.stem, caption) != caption:
            raise UsageError(f"{path}: a second, different caption for '{path.stem}'; take a table with file,caption")
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
