"""Photos behind addresses, fetched once into a local cache. No address ever runs a program."""

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import fsspec

from dinogen.data.transfer import TooLarge, Unreachable, Wanted, copy_address, refuse_for_good
from dinogen.errors import DinogenError, UsageError
from shards.decode import Rejected

WEB = ("http", "https")
STORES = ("s3", "gs", "gcs", "hf", "file", "memory")  # what fsspec may be asked for; it knows riskier ones

# parameters of an address that are keys to it, not its name: of S3, Google, Azure and others
SECRET = re.compile(r"x-(amz|goog)-.*|awsaccesskeyid|googleaccessid|signature|policy|key-pair-id|expires|sig|se|sp|sv|"
                    r".*(token|secret|password|api_?key).*", re.IGNORECASE)  # fmt: skip


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
    try:
        store, root = fsspec.core.url_to_fs(url)
        found = store.find(root, detail=True)
    except Exception as error:  # every store has its own exceptions
        refuse_for_good(url, error)
        raise DinogenError(f"{url}: cannot be listed ({type(error).__name__}: {error})") from error
    for path, about in sorted(found.items()):
        version = tuple(str(about[key]) for key in ("size", "ETag", "LastModified", "mtime", "created") if key in about)
        name = os.path.relpath(path, root).replace(os.sep, "/") if path != root else path.rsplit("/", 1)[-1]
        yield name, store.unstrip_protocol(path), version


def fetch(url: str, cache: Path, version: tuple = (), max_bytes: int | None = None) -> Path:
    """The local copy of an address, fetched unless it is there; retried, and never kept in part.

    Raises:
        Rejected: `unreachable` after several tries, or `too-many-bytes`.
        DinogenError: no room on the disk, or a package is missing.
    """
    digest = hashlib.sha256(repr((url, *version)).encode("utf-8", "surrogatepass")).hexdigest()
    path = cache / "files" / digest[:2] / (digest + Path(url).suffix.lower()[:8])
    if not path.exists():
        fetch_to(url, path, max_bytes)
    return path


def fetch_to(url: str, path: Path, max_bytes: int | None = None) -> None:
    """Copy an address to `path`; raises as `fetch` does."""
    try:
        copy_address(url, path, Wanted(most=max_bytes))
    except TooLarge as error:
        raise Rejected("too-many-bytes", error.reason) from error
    except Unreachable as error:
        raise Rejected("unreachable", error.reason) from error


def public_address(url: str) -> str:
    """An address without passwords and signatures: what may be written into records that others read."""
    parts = urlsplit(url)
    query = parse_qsl(parts.query, keep_blank_values=True)
    named = [(name, value) for name, value in query if not SECRET.fullmatch(name)]
    kept = parts.query if len(named) == len(query) else urlencode(named)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, kept, ""))
