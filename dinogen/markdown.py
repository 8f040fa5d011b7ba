"""Pieces of Markdown that cards are made of: cells of tables, and a part between two marks that is written anew."""

from typing import Any


def cell(value: Any) -> str:
    """A value as it stands in a table: one line, no column of its own."""
    return " ".join(str(value).split()).replace("|", "\\|")


def has_part(text: str, begin: str, end: str) -> bool:
    """Whether both marks are there, in that order."""
    return 0 <= text.find(begin) < text.find(end)


def with_part(text: str, begin: str, end: str, part: str) -> str:
    """A text that `has_part`, with something else between its marks."""
    before, _, rest = text.partition(begin)
    return before + begin + part + end + rest.partition(end)[2]
