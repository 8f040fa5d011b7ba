"""Bytes from addresses: tried again when connections drop, taken up where they broke off, and whole or not at all."""

import email.utils
import errno
import http.client
import logging
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import fsspec

from dinogen.data.check import file_sha256
from dinogen.errors import DinogenError
from dinogen.files import atomic_file

Result = TypeVar("Result")

WEB = ("http://", "https://")
PACKAGES = {"gs": "gcsfs", "gcs": "gcsfs"}  # what reads an address; `REMOTE_EXTRA` reads the others
REMOTE_EXTRA = "'dinogen[remote]'"
ATTEMPTS = 5  # in a row that bring nothing new
FIRST_PAUSE = 0.5  # seconds before the second attempt; doubled for each further one
LONGEST_PAUSE = 60.0  # seconds that a busy server may ask for
STALL = 30.0  # seconds without a byte after which a connection counts as dead
CHUNK = 1 << 20
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
GONE, FORBIDDEN = (404, 410), (401, 403)  # answers of a web server that another attempt would not change

log = logging.getLogger(__name__)


class Unreachable(DinogenError):
    """An address that gives nothing: not there, not allowed, or broken in every attempt.

    Args:
        address: begins the message.
        reason: the rest of it.
    """

    def __init__(self, address: str, reason: str):
        super().__init__(f"{address}: {reason}")
        self.reason = reason


class TooLarge(Unreachable):
    """More bytes than were allowed."""


@dataclass(frozen=True)
class Wanted:
    """What is known of a file before it comes: its size and sha256, or the most bytes that it may have."""

    size: int | None = None
    sha256: str | None = None
    most: int | None = None


def default_cache() -> Path:
    """Where copies of what is read from addresses are kept: DINOGEN_CACHE, or else below the user's cache folder."""
    users = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.path.expanduser(os.environ.get("DINOGEN_CACHE") or f"{users}/dinogen"))


def read_address(address: str) -> bytes:
    """The content of a small file at an address.

    Raises:
        DinogenError: not there, not allowed, or not read in several attempts.
    """
    return retry(address, lambda: _read(address))


def copy_address(address: str, path: Path, wanted: Wanted = Wanted()) -> None:
    """Copy a file from an address to `path`, which appears only when all of it is there and is what was wanted.

    What a broken connection to a web server has brought is kept, and the next attempt asks for the rest, if it is
    certain to belong to the same file: its sha256 is wanted, or the server tells versions apart. fsspec's stores
    take care of that themselves.

    Raises:
        Unreachable: not there, not allowed, another content, or not read in several attempts.
        TooLarge: more than `wanted.most` bytes.
        DinogenError: no room on the disk, or a package is missing.
    """
    with atomic_file(path) as temporary:
        kind = _WebCopy if address.startswith(WEB) else _StoreCopy
        copy = kind(address, temporary, wanted)
        retry(address, copy.go_on, lambda: temporary.stat().st_size)


def retry(address: str, action: Callable[[], Result], held: Callable[[], int] = lambda: 0) -> Result:
    """Call `action` until it succeeds, or fails `ATTEMPTS` times in a row without `held()` reaching a new height."""
    most, failures = 0, 0
    while True:
        try:
            return action()
        except TooLarge:
            raise
        except Exception as error:  # every kind of store has exceptions of its own
            refuse_for_good(address, error)
            most, failures = (held(), 1) if held() > most else (most, failures + 1)
            if failures == ATTEMPTS:
                reason = f"could not be read in {ATTEMPTS} attempts ({one_line(error)})"
                raise Unreachable(address, reason) from error
            log.warning("%s: %s; trying again", address, one_line(error))
            time.sleep(max(FIRST_PAUSE * 2 ** (failures - 1), asked_pause(error)))


def asked_pause(error: Exception) -> float:
    """The seconds that a busy server asks to wait, by Retry-After; 0 where it does not, at most `LONGEST_PAUSE`."""
    asked = error.headers.get("Retry-After", "") if isinstance(error, urllib.error.HTTPError) else ""
    if not asked.strip().isdigit():
        date = email.utils.parsedate_to_datetime(asked).timestamp() if email.utils.parsedate(asked) else 0.0
        asked = max(0.0, date - time.time())
    return min(float(asked), LONGEST_PAUSE)


def refuse_for_good(address: str, error: Exception) -> None:
    """Raise a plain line for an error that no further attempt would mend; return for others."""
    status = error.code if isinstance(error, urllib.error.HTTPError) else None
    if isinstance(error, FileNotFoundError) or status in GONE:
        raise Unreachable(address, "is not there") from error
    if isinstance(error, PermissionError) or status in FORBIDDEN:
        raise Unreachable(address, f"may not be read with these credentials ({one_line(error)})") from error
    if isinstance(error, ImportError):
        package = PACKAGES.get(address.partition(":")[0], REMOTE_EXTRA)
        raise DinogenError(f"{address}: needs a package that is not installed; run: pip install {package}") from error
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        remedy = "free some space or name a folder on another disk (for copies of what is read: DINOGEN_CACHE)"
        raise DinogenError(f"{address}: no room on this disk for a copy; {remedy}") from error


def one_line(error: Exception) -> str:
    """An error's kind and text without line breaks."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def _read(address: str) -> bytes:
    if not address.startswith(WEB):
        store, place = fsspec.core.url_to_fs(address)
        return store.cat_file(place)
    with _open_web(address, {}) as answer:
        return answer.read()


class _Copy:
    """A file on its way from an address to `path`."""

    def __init__(self, address: str, path: Path, wanted: Wanted):
        self.address, self.path, self.wanted = address, path, wanted
        self.path.touch()

    def go_on(self) -> None:
        """Bring `path` nearer to the whole file; an error if it is not whole then."""
        self._check(self._bring())

    def _bring(self) -> int | None:
        """Fetch; the whole file's size as the server has it, if it says so."""
        raise NotImplementedError

    def _refuse_more(self, size: int) -> None:
        if self.wanted.most is not None and size > self.wanted.most:
            raise TooLarge(self.address, f"more than {self.wanted.most:,} bytes")

    def _check(self, promised: int | None) -> None:
        size = promised if self.wanted.size is None else self.wanted.size
        held = self.path.stat().st_size
        if size is not None and held < size:
            raise OSError(f"ended after {held} of {size} bytes")
        if size is not None and held > size:
            raise self._worthless(f"brought {held} bytes instead of {size}")
        if self.wanted.sha256 not in (None, file_sha256(self.path)):
            raise self._worthless("what arrived differs from the manifest's sha256")

    def _worthless(self, why: str) -> OSError:
        """Throw away what came; the next attempt begins from the start."""
        self.path.write_bytes(b"")
        return OSError(why)


class _StoreCopy(_Copy):
    def _bring(self) -> int | None:
        store, place = fsspec.core.url_to_fs(self.address)
        size = None if self.wanted.most is None else store.size(place)
        self._refuse_more(size or 0)
        store.get_file(place, str(self.path))
        return size


class _WebCopy(_Copy):
    """`version` is what the server calls the content of which `path` holds the beginning."""

    version: str | None = None

    def _bring(self) -> int | None:
        held = self.path.stat().st_size if self.version or self.wanted.sha256 else 0
        asked = {"Range": f"bytes={held}-"} if held else {}
        if held and self.version:
            asked["If-Range"] = self.version
        try:
            answer = _open_web(self.address, asked)
        except urllib.error.HTTPError as error:
            if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise self._worthless("holds less than it had begun to send") from error
            raise
        with answer, open(self.path, "r+b") as file:
            # A server that knows no ranges, or has another content by now, answers with the whole file.
            part = answer.headers.get("Content-Range", "") if answer.status == http.client.PARTIAL_CONTENT else ""
            file.seek(held if part.startswith(f"bytes {held}-") else 0)
            file.truncate()
            if part and not file.tell():
                raise OSError(f"sent {part} when asked for what follows {held} bytes")
            self.version = version_of(answer)
            length = answer.headers.get("Content-Length", "")
            promised = file.tell() + int(length) if length.isdigit() else None
            self._refuse_more(promised or 0)
            while block := answer.read1(CHUNK):  # as it comes: a longer read would lose what came before a stall
                self._refuse_more(file.tell() + len(block))
                file.write(block)
        return promised


def version_of(answer: http.client.HTTPResponse) -> str | None:
    """What tells a web file's contents apart and may stand in If-Range: a strong ETag, or else the date."""
    tag = answer.headers.get("ETag", "")
    return tag if tag.startswith('"') else answer.headers.get("Last-Modified")


def _open_web(address: str, headers: dict[str, str]) -> http.client.HTTPResponse:
    # Not by fsspec, whose web files take a dead server for a missing file and five minutes for the longest transfer.
    request = urllib.request.Request(address, headers={"User-Agent": "dinogen"} | headers)
    return urllib.request.urlopen(request, timeout=STALL)
