"""Pieces of Markdown that cards are made of: cells of tables, and a part between two marks that is written anew."""

import re
from typing import Any, Literal

Block = tuple[Literal["p", "ul", "table"], list[list[str]]]


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


def section_of(text: str, title: str) -> str:
    """What stands below a heading of the second level; empty where there is no such heading."""
    found = re.search(rf"^## {re.escape(title)}[ \t]*\n(.*?)(?=^#{{1,2}} |\Z)", text, flags=re.M | re.S)
    return found[1].strip() if found else ""


def blocks_of(text: str) -> list[Block]:
    """A section's paragraphs, lists and tables, without the signs of Markdown.

    Returns:
        Of each block its kind and its rows: `p` has one row with one cell, `ul` a row for each item, and `table` a row
        for each of its rows, the header first.
    """
    blocks: list[Block] = []
    for part in re.split(r"\n\s*\n", re.sub(r"<!--.*?-->", "", text, flags=re.S)):
        lines = [line.strip() for line in part.replace("`", "").splitlines() if line.strip()]
        if not lines:
            continue
        if lines[0].startswith("|"):
            rows = [re.split(r"(?<!\\)\|", line.strip("|")) for line in lines if not re.fullmatch(r"[\s|:-]+", line)]
            blocks.append(("table", [[each.strip().replace("\\|", "|") for each in row] for row in rows]))
        elif lines[0].startswith("- "):
            items = re.split(r"(?:^|\n)- ", "\n".join(lines))[1:]
            blocks.append(("ul", [[" ".join(item.split())] for item in items]))
        else:
            blocks.append(("p", [[" ".join(lines)]]))
    return blocks
