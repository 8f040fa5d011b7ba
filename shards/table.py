"""Cells of tables that people open in a spreadsheet."""

import re
from typing import Any

# What spreadsheets take for a formula, behind a blank too; and what is marked like one that was written down safely.
FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]|[\t\r\n]|'+\s*[=+\-@＝＋－＠\t\r\n]")
MARK = "'"  # before it, spreadsheets and people see text


def to_cell(value: Any) -> Any:
    """A value as it is written into a table: a text that a spreadsheet would compute gets a mark."""
    return MARK + value if isinstance(value, str) and FORMULA.match(value) else value


def from_cell(text: str) -> str:
    """The inverse of `to_cell`; a text without the mark is itself."""
    return text[1:] if text.startswith(MARK) and FORMULA.match(text[1:]) else text
