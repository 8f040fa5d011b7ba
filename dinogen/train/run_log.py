"""What a run says to people: on the screen, and with the time of day in its folder's log.txt.

Debug messages go to the file only, warnings to stderr, others to stdout; progress bars stay whole. Only the first rank
speaks.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tqdm import tqdm

from dinogen.distributed import rank
from dinogen.progress import note

LOG = logging.getLogger("dinogen.train")
TIMES = logging.Formatter("%(asctime)s  %(message)s", "%Y-%m-%d %H:%M:%S")


class Screen(logging.Handler):
    """Shows messages above the progress bar, if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.WARNING:
            note(record.getMessage())
        else:
            tqdm.write(record.getMessage(), file=sys.stderr)


class LogFile(logging.FileHandler):
    """A file that may fail to be written without taking the run with it."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Leave the message out."""


@contextmanager
def logged_to(path: Path) -> Iterator[None]:
    """While entered, messages are appended to a file too."""
    file = LogFile(path, encoding="utf-8")
    file.setFormatter(TIMES)
    LOG.addHandler(file)
    try:
        yield
    finally:
        LOG.removeHandler(file)
        with suppress(OSError):  # what a full disk has not taken
            file.close()


LOG.setLevel(logging.DEBUG)
LOG.propagate = False
LOG.addFilter(lambda record: rank() == 0)
LOG.addHandler(Screen(logging.INFO))
