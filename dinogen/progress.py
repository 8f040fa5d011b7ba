"""Progress lines with a rate and an ETA, readable on a terminal and in a log file."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def progress_bar(total: int | None = None, desc: str = "", unit: str = "img", **options) -> tqdm:
    """A bar to `update()` by hand. In a log file it prints a line every ten seconds instead of redrawing."""
    on_terminal = sys.stderr.isatty()
    options.setdefault("mininterval", 0.2 if on_terminal else 10.0)
    return tqdm(total=total, desc=desc, unit=unit, dynamic_ncols=on_terminal, ascii=not on_terminal, **options)


def progress(items: Iterable[Item], total: int | None = None, desc: str = "", unit: str = "img") -> Iterator[Item]:
    """Yield `items` while a bar counts them."""
    if total is None and hasattr(items, "__len__"):
        total = len(items)
    with progress_bar(total, desc, unit) as bar:
        for item in items:
            yield item
            bar.update()
