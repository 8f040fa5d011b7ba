"""Bytes from addresses: tried again when connections drop, taken up where they broke off, and whole or not at all."""

import errno
import http.client
import logging
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
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
STALL = 30.0  # seconds without a byte after which a connection counts as dead
CHUNK = 1 << 20
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
GONE, FORBIDDEN = (404, 410), (401, 403)  # answers of a web server that another attempt would not change

log = logging.getLogger(__name__)


def read_address(address: str) -> bytes:
    """The content of a small file at an address.

    Raises:
        DinogenError: not there, not allowed, or not to be had in several attempts.
    """
    return retry(address, lambda: _read(address))


def copy_address(address: str, path: Path, size: int, sha256: str) -> None:
    """Copy a file from an address to `path`, which appears only when size and sha256 are right.

    What a broken connection to a web server has brought is kept, and the next attempt asks for the rest; fsspec's
    stores take care of that themselves.

    Raises:
        DinogenError: not there, not allowed, another content, or not to be had in several attempts.
    """
    with atomic_file(path) as temporary:
        temporary.touch()
        retry(address, lambda: _go_on(address, temporary, size, sha256), lambda: temporary.stat().st_size)


def retry(address: str, action: Callable[[], Result], held: Callable[[], int] = lambda: 0) -> Result:
    """Call `action` until it succeeds, or fails `ATTEMPTS` times in a row without `held()` reaching a new height."""
    most, failures = 0, 0
    while True:
        try:
            return action()
        except Exception as error:  # every kind of store has exceptions of its own
            refuse_for_good(address, error)
            most, failures = (held(), 1) if held() > most else (most, failures + 1)
            if failures == ATTEMPTS:
                reason = one_line(error)
                raise DinogenError(f"{address}: could not be read in {ATTEMPTS} attempts ({reason})") from error
            log.warning("%s: %s; trying again", address, one_line(error))
            time.sleep(FIRST_PAUSE * 2 ** (failures - 1))


def refuse_for_good(address: str, error: Exception) -> None:
    """Raise a plain line for an error that no further attempt would mend; return for others."""
    status = error.code if isinstance(error, urllib.error.HTTPError) else None
    if isinstance(error, FileNotFoundError) or status in GONE:
        raise DinogenError(f"{address}: is not there") from error
    if isinstance(error, PermissionError) or status in FORBIDDEN:
        raise DinogenError(f"{address}: may not be read with these credentials ({one_line(error)})") from error
    if isinstance(error, ImportError):
        package = PACKAGES.get(address.partition(":")[0], REMOTE_EXTRA)
        raise DinogenError(f"{address}: needs a package that is not installed; run: pip install {package}") from error
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        remedy = "free some space or name a folder on another disk in DINOGEN_CACHE"
        raise DinogenError(f"{address}: no room on this disk for a copy; {remedy}") from error


def one_line(error: Exception) -> str:
    """An error's kind and text without line breaks."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def _read(address: str) -> bytes:
    if not address.startswith(WEB):
        store, place = fsspec.core.url_to_fs(address)
        return store.cat_file(place)
    with _open_web(address, first=0) as answer:
        return answer.read()


def _go_on(address: str, path: Path, size: int, sha256: str) -> None:
    """Bring `path` nearer to the whole file; an error if it is not whole then."""
    if address.startswith(WEB):
        _append_web(address, path)
    else:
        store, place = fsspec.core.url_to_fs(address)
        store.get_file(place, str(path))
    held = path.stat().st_size
    if held < size:
        raise OSError(f"ended after {held} of {size} bytes")
    if held > size or file_sha256(path) != sha256:
        path.write_bytes(b"")  # from the start: what came is worth nothing
        raise OSError("what arrived differs from the manifest's sha256")


def _append_web(address: str, path: Path) -> None:
    held = path.stat().st_size
    with _open_web(address, held) as answer, open(path, "r+b") as file:
        # A server that knows no ranges answers with the whole file.
        file.seek(held if answer.status == http.client.PARTIAL_CONTENT else 0)
        file.truncate()
        shutil.copyfileobj(answer, file, CHUNK)


def _open_web(address: str, first: int) -> http.client.HTTPResponse:
    # Not by fsspec, whose web files take a dead server for a missing file and five minutes for the longest transfer.
    headers = {"User-Agent": "dinogen"} | ({"Range": f"bytes={first}-"} if first else {})
    return urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=STALL)
