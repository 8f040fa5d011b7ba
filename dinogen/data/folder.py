"""Where a data set lies: a folder here, or an address whose shards are copied to a local cache as they are needed."""

import hashlib
import logging
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

import fsspec

from dinogen.data.manifest import MANIFEST_NAME, Manifest, ShardRecord, parse_manifest, read_manifest
from dinogen.errors import DinogenError, UsageError
from dinogen.files import atomic_file

Verify = Literal["sha256", "size"]
Result = TypeVar("Result")

PROTOCOLS = {"s3", "gs", "gcs", "hf", "http", "https"}
ADDRESS = re.compile(r"(?P<protocol>[a-z0-9+]{2,}):/*(?P<rest>.*)")
ATTEMPTS = 5
FIRST_PAUSE = 0.5  # seconds before the second attempt; doubled for each further one
CHUNK = 1 << 20
CACHE_GB = 100.0

log = logging.getLogger(__name__)


class LocalFolder:
    """Shards in a folder of this machine."""

    def __init__(self, path: Path):
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def manifest(self) -> Manifest:
        return read_manifest(self.path)

    def fetch(self, record: ShardRecord, verify: Verify | None) -> Path:
        """The shard's file, compared with the manifest unless `verify` is None."""
        path = self.path / record.name
        if verify is not None:
            check_file(path, record, verify)
        return path


class RemoteFolder:
    """Shards at an address that fsspec knows.

    They are copied whole, checked by size and sha256 on arrival, and kept under their sha256 in a cache: the
    folder named by DINOGEN_CACHE (default: dinogen below the user's cache folder), which holds at most
    DINOGEN_CACHE_GB (default 100): what was not opened for longest goes first.
    """

    def __init__(self, protocol: str, rest: str):
        self.address = f"{protocol}://{rest.rstrip('/')}"
        default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "dinogen"
        self.cache = Path(os.environ.get("DINOGEN_CACHE", default)) / "shards"
        self.cache_bytes = float(os.environ.get("DINOGEN_CACHE_GB", CACHE_GB)) * 1e9

    def __str__(self) -> str:
        return self.address

    def manifest(self) -> Manifest:
        return parse_manifest(self._retry(MANIFEST_NAME, self._read), f"{self.address}/{MANIFEST_NAME}")

    def fetch(self, record: ShardRecord, verify: Verify | None) -> Path:
        """The shard's file in the cache, copied there if it is not yet or not any more."""
        path = self.cache / f"{record.sha256}.tar"
        try:
            check_file(path, record, verify or "size")
            os.utime(path)
        except (DinogenError, FileNotFoundError):
            self._make_room(record.bytes)
            self._retry(record.name, lambda address: self._copy(address, path, record))
        return path

    def _retry(self, name: str, action: Callable[[str], Result]) -> Result:
        address = f"{self.address}/{name}"
        for attempt in range(ATTEMPTS):
            try:
                return action(address)
            except FileNotFoundError as error:
                raise DinogenError(f"{address}: is not there") from error
            except ImportError as error:
                raise DinogenError(f"{address}: this kind of address needs another package ({error})") from error
            except Exception as error:  # every file system has exceptions of its own
                if attempt == ATTEMPTS - 1:
                    reason = " ".join(f"{type(error).__name__}: {error}".split())
                    raise DinogenError(f"{address}: could not be read in {ATTEMPTS} attempts ({reason})") from error
                log.warning("%s: %s; trying again", address, error)
                time.sleep(FIRST_PAUSE * 2**attempt)

    def _read(self, address: str) -> bytes:
        with fsspec.open(address, "rb") as file:
            return file.read()

    def _copy(self, address: str, path: Path, record: ShardRecord) -> None:
        digest = hashlib.sha256()
        with atomic_file(path) as temporary:
            with fsspec.open(address, "rb") as source, open(temporary, "wb") as target:
                while chunk := source.read(CHUNK):
                    digest.update(chunk)
                    target.write(chunk)
            if digest.hexdigest() != record.sha256:
                raise DinogenError("what arrived differs from the manifest's sha256")

    def _make_room(self, needed: int) -> None:
        files = [(path.stat().st_mtime, path.stat().st_size, path) for path in self.cache.glob("*.tar")]
        held = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if held + needed <= self.cache_bytes:
                return
            path.unlink(missing_ok=True)  # whoever reads it keeps it open
            held -= size


def open_folder(data: Path | str) -> LocalFolder | RemoteFolder:
    """The folder or address of a data set.

    Raises:
        UsageError: an address that is none of `PROTOCOLS`; `pipe:` above all, which would run a command.
    """
    match = ADDRESS.fullmatch(str(data))  # a Path has made s3:/bucket of s3://bucket
    if match is None:
        return LocalFolder(Path(data))
    if match["protocol"] not in PROTOCOLS or "::" in match["rest"]:
        raise UsageError(f"{data}: take a folder or an address that begins with {', '.join(sorted(PROTOCOLS))}")
    return RemoteFolder(match["protocol"], match["rest"])


def check_file(path: Path, record: ShardRecord, verify: Verify) -> None:
    """Compare a shard's file with the manifest.

    Raises:
        DinogenError: missing, of another size, or (with `sha256`) of another content.
    """
    remedy = "restore it or pack the crops again"
    try:
        size = path.stat().st_size
        if size != record.bytes:
            raise DinogenError(f"{path}: has {size} bytes instead of {record.bytes}; {remedy}")
        if verify == "sha256" and file_sha256(path) != record.sha256:
            raise DinogenError(f"{path}: its sha256 differs from the manifest's, so it is damaged; {remedy}")
    except OSError as error:
        raise DinogenError(f"{path}: cannot be read ({error.strerror}); {remedy}") from error


def file_sha256(path: Path) -> str:
    """sha256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
