"""Is a shard's file what the manifest says."""

import hashlib
from pathlib import Path
from typing import Literal

from dinogen.data.manifest import ShardRecord
from dinogen.errors import DinogenError

Verify = Literal["sha256", "size"]


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
