"""Progress with a rate and an ETA: a bar on a terminal, plain lines in a log file, nothing where none is wanted."""

import contextlib
import io
import sys
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")

LINE = "{desc}: {n_fmt} of {total_fmt}{unit} ({percentage:.0f}%), {rate_fmt}, {remaining} left{postfix}"
LINE_WITHOUT_TOTAL = "{desc}: {n_fmt}{unit}, {rate_fmt}{postfix}"
LAST_LINE = "{desc}: {n_fmt}{unit} in {elapsed}, {rate_fmt}{postfix}"
SECONDS = (10.0, 60.0)  # between two lines: at first, and after a while

_quiet = False  # of the process, as its threads show progress too


@contextlib.contextmanager
def be_quiet(quiet: bool = True) -> Iterator[None]:
    """While entered, no progress and no notes are shown."""
    global _quiet
    before, _quiet = _quiet, quiet
    try:
        yield
    finally:
        _quiet = before


def note(text: str) -> None:
    """Say what happens, to those who watch."""
    if not _quiet:
        with tqdm.external_write_mode():  # above a bar, not into it
            print(text, flush=True)


class Lines(tqdm):
    """A bar for log files: it counts alike, and writes whole lines, ever less often."""

    def __init__(self, **options) -> None:
        self.shown_at: int | None = None
        total = options.get("total")
        super().__init__(
            file=io.StringIO(), bar_format=LINE if total else LINE_WITHOUT_TOTAL, mininterval=SECONDS[0],
            maxinterval=SECONDS[1], **options,
        )  # fmt: skip

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Write a line, unless nothing has happened since the last one."""
        if msg is not None or self.n in (self.initial, self.shown_at) or _quiet:
            return
        self.shown_at = self.n
        self.mininterval = min(SECONDS[1], max(SECONDS[0], self.format_dict["elapsed"] / 20))
        print(" ".join(str(self).replace("/ ", "/").split()), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Write the last line."""
        if not self.disable:
            self.bar_format, self.shown_at = LAST_LINE, None
        super().close()


def progress_bar(total: int | None = None, desc: str = "", unit: str = "img", **options) -> tqdm:
    """A bar to `update()` by hand; on a terminal it is redrawn, elsewhere it writes lines."""
    if sys.stderr.isatty() and not _quiet:
        return tqdm(total=total, desc=desc, unit=unit, mininterval=0.2, dynamic_ncols=True, **options)
    return Lines(total=total, desc=desc, unit=f" {unit}", **options)


def progress(items: Iterable[Item], total: int | None = None, desc: str = "", unit: str = "img") -> Iterator[Item]:
    """Yield `items` while a bar counts them."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with progress_bar(total, desc, unit) as bar:
        for item in items:
            yield item
            bar.update()
