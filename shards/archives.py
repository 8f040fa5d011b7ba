"""Photos inside `.zip` and `.tar` files, WebDataset shards among them, read in place."""

import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from dinogen.data.schema import PHOTO_SUFFIXES
from dinogen.files import is_hidden
from shards.decode import Rejected

ARCHIVES = {".zip", ".tar"}
ZIP_UTF8 = 0x800  # the bit of a member's flags that says in which encoding its name is
PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".7z", ".rar")


@dataclass(frozen=True, slots=True)
class Member:
    """One file in an archive. `offset` is where its bytes begin in a tar, its place in the list of a zip."""

    name: str
    offset: int
    size: int


def list_archive(path: Path) -> Iterator[tuple[Member, Member | None]]:
    """The photos of an archive, each with the `.json` of the same name or of the same WebDataset key, if there is one.

    Hidden members, as a Mac adds them, are left out. Names have slashes between folders, whatever system wrote them.

    Raises:
        Rejected: `damaged-archive` or `unreadable`; of a damaged tar only after the photos before the damage.
    """
    damage = None
    if path.suffix.lower() == ".zip":
        members = list_zip(path)
    else:
        members, damage = list_tar(path)
    # Of two members of one name the later one counts.
    by_name = {member.name: member for member in members if not is_hidden(member.name)}
    for name, member in by_name.items():
        if PurePosixPath(name).suffix.lower() in PHOTO_SUFFIXES:  # a shard holds much besides
            stems = (name.rpartition(".")[0], webdataset_key(name))
            yield member, next((by_name[f"{stem}.json"] for stem in stems if f"{stem}.json" in by_name), None)
    if damage:
        raise Rejected("damaged-archive", damage)


def webdataset_key(name: str) -> str:
    """WebDataset's rule: the key of a sample ends at the first dot of the file's name."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


def list_zip(path: Path) -> list[Member]:
    """The files of a zip."""
    infos = open_zip(str(path), path.stat().st_mtime_ns).infolist()
    return [Member(zip_name(info), index, info.file_size) for index, info in enumerate(infos) if not info.is_dir()]


def zip_name(info: zipfile.ZipInfo) -> str:
    """A member's name as it was meant: a Mac writes UTF-8 and does not say so, older Windows programs backslashes."""
    name = info.filename
    if not info.flag_bits & ZIP_UTF8:
        with suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return name.replace("\\", "/")


def list_tar(path: Path) -> tuple[list[Member], str | None]:
    """The regular files of a tar, and what is wrong with its end: `tarfile` itself stops at a bad header in silence."""
    members: list[Member] = []
    try:
        with tarfile.open(path, "r:") as tar, path.open("rb") as raw:
            try:
                members.extend(Member(info.name, info.offset_data, info.size) for info in tar if info.isreg())
            except (tarfile.TarError, EOFError, ValueError) as error:
                return members, str(error)  # those before the damage
            raw.seek(tar.offset)
            if any(end := raw.read(tarfile.BLOCKSIZE)) or not end:
                return members, f"cut off or overwritten at byte {tar.offset}"
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise Rejected("damaged-archive", str(error)) from error
    except OSError as error:
        raise Rejected("unreadable", error.strerror or str(error)) from error
    return members, None


@lru_cache(maxsize=4)
def open_zip(path: str, changed: int) -> zipfile.ZipFile:
    """Keep the last few zips open: their list of contents is read once, not for every photo."""
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise Rejected("damaged-archive", str(error)) from error
    except OSError as error:
        raise Rejected("unreadable", error.strerror or str(error)) from error


def read_member(archive: str, member: Member) -> bytes:
    """The bytes of one member.

    Raises:
        Rejected: `damaged-archive` (cut short, a wrong checksum) or `unreadable` (encrypted, vanished).
    """
    try:
        if archive.lower().endswith(".zip"):
            opened = open_zip(archive, Path(archive).stat().st_mtime_ns)
            with opened.open(opened.infolist()[member.offset]) as file:
                payload = file.read(member.size + 1)  # never more than declared: a zip can lie about it
        else:
            with open(archive, "rb") as file:
                file.seek(member.offset)
                payload = file.read(member.size)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise Rejected("damaged-archive", str(error)) from error
    except (OSError, RuntimeError, NotImplementedError) as error:  # RuntimeError is how zipfile asks for a password
        raise Rejected("unreadable", str(error)) from error
    if len(payload) != member.size:
        raise Rejected("damaged-archive", f"{member.name}: holds {len(payload)} of {member.size} bytes")
    return payload
