"""Where a data set lies: a folder here, or an address whose shards are copied to a local cache as they are needed."""

import math
import os
import re
from pathlib import Path

from filelock import FileLock

from dinogen.data.check import Verify, check_file
from dinogen.data.manifest import MANIFEST_NAME, Manifest, ShardRecord, parse_manifest, read_manifest
from dinogen.data.transfer import Wanted, copy_address, default_cache, read_address
from dinogen.errors import DinogenError, UsageError
from dinogen.files import make_output_folder

PROTOCOLS = {"s3", "gs", "gcs", "hf", "http", "https"}
ADDRESS = re.compile(r"(?P<protocol>[a-z0-9+]{2,}):/*(?P<rest>.*)")  # a Path has made s3:/bucket of s3://bucket
CACHE_GB = 100.0


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
    """Shards at an address: of a web server, or of a store that fsspec knows.

    They are copied whole, checked by size and sha256 on arrival, and kept in a cache that the processes of a machine
    share: the folder named by DINOGEN_CACHE (default: dinogen below the user's cache folder), which holds at most
    DINOGEN_CACHE_GB (default 100): what was not opened for longest goes first.

    Credentials and other servers are named as the stores' own tools have it, AWS_ENDPOINT_URL for one, or by
    fsspec's variables, such as FSSPEC_S3_ANON=true.

    Args:
        address: beginning with one of `PROTOCOLS`.
        cache: another folder for the copies.
        cache_bytes: how much it may hold; with 0, the shard opened last.
    """

    def __init__(self, address: str, cache: Path | None = None, cache_bytes: float | None = None):
        self.address = address.rstrip("/")
        self.cache = cache or default_cache() / "shards"
        self.cache_bytes = cache_limit() if cache_bytes is None else cache_bytes

    def __str__(self) -> str:
        return self.address

    def manifest(self) -> Manifest:
        address = f"{self.address}/{MANIFEST_NAME}"
        return parse_manifest(read_address(address), address)

    def fetch(self, record: ShardRecord, verify: Verify | None) -> Path:
        """The shard's file in the cache, copied there if it is not yet or not any more."""
        path = self.cache / f"{record.sha256}-{record.name}"
        if self._holds(path, record, verify):
            return path
        # Workers and ranks want the same shards at the same time: one copies, the others wait for it.
        with FileLock(make_output_folder(self.cache) / f"{record.sha256}.lock"):
            if not self._holds(path, record, verify):
                for leftover in self.cache.glob(f".{path.name}.tmp*"):  # of a process that was killed
                    leftover.unlink()
                self._make_room(record.bytes)
                copy_address(f"{self.address}/{record.name}", path, Wanted(record.bytes, record.sha256))
        return path

    def _holds(self, path: Path, record: ShardRecord, verify: Verify | None) -> bool:
        try:
            check_file(path, record, verify or "size")
            os.utime(path)
            return True
        except (DinogenError, FileNotFoundError):
            return False

    def _make_room(self, needed: int) -> None:
        files = [(path.stat().st_mtime, path.stat().st_size, path) for path in self.cache.glob("*.tar")]
        held = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if held + needed <= self.cache_bytes:
                return
            path.unlink(missing_ok=True)  # whoever reads it keeps it open
            held -= size


def cache_limit() -> float:
    """How many bytes the cache may hold.

    Raises:
        UsageError: DINOGEN_CACHE_GB is not a number.
    """
    given = os.environ.get("DINOGEN_CACHE_GB") or CACHE_GB
    try:
        gigabytes = float(given)
    except ValueError:
        gigabytes = math.nan
    if not gigabytes >= 0:
        raise UsageError(f"DINOGEN_CACHE_GB={given}: give a number of gigabytes, such as {CACHE_GB:g}")
    return gigabytes * 1e9


def is_address(data: Path | str) -> bool:
    """Whether something is an address and not a folder here, whose name may have a colon."""
    return ADDRESS.fullmatch(str(data)) is not None and not Path(data).is_dir()


def open_folder(data: Path | str) -> LocalFolder | RemoteFolder:
    """The folder or address of a data set.

    Raises:
        UsageError: an address that is none of `PROTOCOLS`; `pipe:` above all, which would run a command.
    """
    match = ADDRESS.fullmatch(str(data)) if is_address(data) else None
    if match is None:
        return LocalFolder(Path(data))
    if match["protocol"] not in PROTOCOLS or "::" in match["rest"]:
        raise UsageError(f"{data}: take a folder or an address that begins with {', '.join(sorted(PROTOCOLS))}")
    folder, _, name = match["rest"].rstrip("/").rpartition("/")
    if name == MANIFEST_NAME or name.endswith(".tar"):
        raise UsageError(f"{data}: not a folder; give its folder, {match['protocol']}://{folder}")
    return RemoteFolder(f"{match['protocol']}://{match['rest']}")
