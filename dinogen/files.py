"""Writing files whole or not at all."""

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath
from typing import Any

import psutil
from safetensors import SafetensorError

from dinogen.errors import DinogenError

DISK_FULL = "the disk is full; free some space or choose another --output"
TOO_LARGE = "a file is larger than this file system or `ulimit -f` allows; raise that limit or choose another --output"
NO_PERMISSION = "no permission to write here; choose another --output"
FILE_IN_THE_WAY = "a file stands where a folder is needed; choose another --output"
WRITE_REMEDIES = {
    errno.ENOSPC: DISK_FULL,
    errno.EDQUOT: DISK_FULL,
    errno.EFBIG: TOO_LARGE,
    errno.EACCES: NO_PERMISSION,
    errno.EPERM: NO_PERMISSION,
    errno.EROFS: NO_PERMISSION,
    errno.EEXIST: FILE_IN_THE_WAY,
    errno.ENOTDIR: FILE_IN_THE_WAY,
}


def fsync_path(path: Path) -> None:
    """Force a file, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def plain_write_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write below `path` into a line that says what to do."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        if remedy := WRITE_REMEDIES.get(error_number(error) or 0):
            raise DinogenError(f"{path}: {remedy}") from error
        raise


def error_number(error: OSError | SafetensorError) -> int | None:
    """The operating system's number of an error; safetensors only mentions it in its text."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"os error (\d+)", str(error))
    return int(found[1]) if found else None


def is_hidden(path: str | PurePath) -> bool:
    """Whether a path below some folder has a part that people do not see: `.name`, or the `__MACOSX` of a Mac's zip."""
    parts = PurePath(path).parts
    return any((part.startswith(".") and part not in (".", "..")) or part == "__MACOSX" for part in parts)


def temporary_name(path: Path) -> Path:
    """A hidden name beside `path` that tells which process is at work there."""
    return path.with_name(f".{path.name}.tmp{os.getpid()}")


def remove_folder(path: Path) -> None:
    """Delete a folder, which loses its name first: a half-deleted one must not be taken for a whole one."""
    doomed = temporary_name(path)
    os.replace(path, doomed)
    shutil.rmtree(doomed)


def remove_leftovers(folder: Path) -> None:
    """Delete what killed processes left half-written, or half-deleted, in a folder of which we are the only writer."""
    for path in folder.glob(".*.tmp*"):
        match = re.fullmatch(r"\..+\.tmp(\d+)", path.name)
        if match is None or could_have_made(int(match[1]), path):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def could_have_made(pid: int, path: Path) -> bool:
    """Whether process number `pid` runs on this machine since before `path` was last changed."""
    with suppress(psutil.Error, FileNotFoundError):
        return psutil.Process(pid).create_time() <= path.stat().st_mtime
    return False


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` to write to; it takes the name `path` only when the block succeeds.

    Raises:
        DinogenError: the disk is full or the folder cannot be written to. Nothing half-written is left.
    """
    temporary = temporary_name(path)
    make_output_folder(path.parent)
    try:
        with plain_write_errors(path):
            yield temporary
            fsync_path(temporary)
            os.replace(temporary, path)
            fsync_path(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Like `atomic_file`, for a folder: every file in it is synced before it takes its name.

    `path` must not exist yet, unless it is an empty folder.
    """
    temporary = temporary_name(path)
    try:
        with plain_write_errors(path):
            temporary.mkdir(parents=True)
            yield temporary
            for file in sorted(temporary.rglob("*")):
                fsync_path(file)
            fsync_path(temporary)
            os.replace(temporary, path)
            fsync_path(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_bytes(path: Path, payload: bytes) -> None:
    """Write `payload` to `path` whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(payload)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys, whole or not at all. NaN and infinities are refused."""
    write_bytes(path, (json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n").encode())


def make_output_folder(path: Path) -> Path:
    """Create `path` with its parents, or say plainly why that cannot be."""
    with plain_write_errors(path):
        path.mkdir(parents=True, exist_ok=True)
    return path
