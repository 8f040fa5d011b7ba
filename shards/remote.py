"""Photos behind addresses, fetched once into a local cache. No address ever runs a program."""

import hashlib
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from dinogen.errors import DinogenError, UsageError
from dinogen.files import atomic_file
from shards.decode import Rejected

WEB = ("http", "https")
STORES = ("s3", "gs", "gcs", "hf", "file", "memory")  # what fsspec may be asked for; it knows riskier ones
NEEDS = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs"}
TRIES = 4
WAIT = 0.5  # seconds before the second try, doubled each time
STALL = 30.0  # seconds without a byte after which a connection counts as dead
BLOCK = 1 << 20


def default_cache() -> Path:
    """Where fetched files are kept between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "dinogen"


def is_address(text: str) -> bool:
    """Whether `text` is an address rather than a path.

    Raises:
        UsageError: it is one of a kind that is never opened, such as WebDataset's `pipe:`.
    """
    if text.lower().startswith("pipe:"):
        raise UsageError(f"{text}: pipe: addresses run programs and are never opened; fetch the photos first")
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.:-]*)://", text)
    if scheme is None:
        return False
    if scheme[1].lower() not in WEB + STORES:
        raise UsageError(f"{text}: addresses may begin with {', '.join(f'{name}://' for name in WEB + STORES[:4])}")
    return True


def list_remote(url: str) -> Iterator[tuple[str, str, tuple]]:
    """Files at or below an address: `(name, address, version)`; the version changes when the file does.

    Raises:
        DinogenError: the address cannot be listed.
    """
    if url.startswith(tuple(f"{scheme}://" for scheme in WEB)):
        yield url.rsplit("/", 1)[-1], url, ()  # the web has no folders to list
        return
    store, root = open_store(url)
    try:
        found = store.find(root, detail=True)
    except Exception as error:  # every store has its own exceptions
        raise DinogenError(f"{url}: cannot be listed ({type(error).__name__}: {error})") from error
    for path, about in sorted(found.items()):
        version = tuple(str(about[key]) for key in ("size", "ETag", "LastModified", "mtime", "created") if key in about)
        name = os.path.relpath(path, root).replace(os.sep, "/") if path != root else path.rsplit("/", 1)[-1]
        yield name, store.unstrip_protocol(path), version


def open_store(url: str):
    """The fsspec file system of an address, and the path in it."""
    import fsspec

    try:
        return fsspec.core.url_to_fs(url)
    except ImportError as error:
        scheme = url.split("://")[0]
        raise DinogenError(f"{url}: needs a package that is missing; pip install {NEEDS.get(scheme, error)}") from error


def fetch(url: str, cache: Path, version: tuple = (), max_bytes: int | None = None) -> Path:
    """The local copy of an address, fetched unless it is there; retried, and never kept in part.

    Raises:
        Rejected: `unreachable` after several tries, or `too-many-bytes`.
    """
    digest = hashlib.sha256(repr((url, *version)).encode("utf-8", "surrogatepass")).hexdigest()
    path = cache / "files" / digest[:2] / (digest + Path(url).suffix.lower()[:8])
    if path.exists():
        return path
    for attempt in range(TRIES):
        try:
            with atomic_file(path) as temporary:
                copy(url, temporary, max_bytes)
            return path
        except (Rejected, DinogenError):
            raise
        except Exception as error:  # urllib's, http.client's and every store's own
            refused = isinstance(error, urllib.error.HTTPError) and error.code in (401, 403, 404, 410)
            if refused or attempt == TRIES - 1:
                raise Rejected("unreachable", f"{type(error).__name__}: {error}") from error
            time.sleep(WAIT * 2**attempt)
    raise AssertionError("unreachable")


def copy(url: str, path: Path, max_bytes: int | None) -> None:
    """Stream an address into a file; a connection that ends early is an error."""
    if url.startswith(tuple(f"{scheme}://" for scheme in WEB)):
        request = urllib.request.Request(url, headers={"User-Agent": "dinogen"})
        opened = urllib.request.urlopen(request, timeout=STALL)
        expected = opened.headers.get("Content-Length")
    else:
        store, place = open_store(url)
        opened, expected = store.open(place, "rb"), store.size(place)
    taken = 0
    with opened, path.open("wb") as file:
        while block := opened.read(BLOCK):
            taken += len(block)
            if max_bytes is not None and taken > max_bytes:
                raise Rejected("too-many-bytes", f"more than {max_bytes:,} bytes")
            file.write(block)
    if expected is not None and taken != int(expected):
        raise OSError(f"ended after {taken} of {expected} bytes")
