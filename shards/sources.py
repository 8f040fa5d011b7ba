"""Where photos come from: folders, lists, archives, addresses. Each yields `Source`s: named, stamped, readable."""

import mimetypes
import os
import re
import stat
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dinogen.data.schema import PHOTO_SUFFIXES
from dinogen.errors import DinogenError, UsageError
from dinogen.files import is_hidden
from dinogen.plain_text import read_text
from shards.archives import ARCHIVES, PACKED, Member, list_archive, read_member
from shards.decode import Rejected
from shards.hub import MAX_BYTES, cached_rows, is_hub, read_rows
from shards.remote import fetch, is_address, list_remote, public_address

COMPANIONS = {".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".xmp", ".yaml", ".yml", ".md", ".html", ".parquet",
              ".db", ".ini"}  # fmt: skip  # captions, licences and notes that lie beside photos
LISTS = {".txt", ".lst", ".list"}


@dataclass(frozen=True, slots=True)
class Source:
    """One thing that may be a photo. `name` is its path below the input, with `/`; unique in one input."""

    name: str

    @property
    def file_name(self) -> str:
        return self.name.rsplit("/", 1)[-1]

    def stamp(self) -> list:
        """Changes when the photo or its sidecar may have: what has an equal one need not be read again."""
        return []

    def read(self) -> bytes:
        """The whole file.

        Raises:
            Rejected: `unreadable`, `unreachable` or `too-many-bytes`.
        """
        raise NotImplementedError

    def is_gone(self) -> bool:
        """Whether it is named but surely not there; what only cannot be opened may be."""
        return False

    def sidecar(self) -> bytes | None:
        """The `.json` of the same name beside the photo, if there is one."""
        return None

    @property
    def address(self) -> str | None:
        """Where it was fetched from, if it was."""
        return None


@dataclass(frozen=True, slots=True)
class FileSource(Source):
    path: str

    def stamp(self) -> list:
        return stamp_of(self.path) + stamp_of(self.beside)

    def read(self) -> bytes:
        return read_file(self.path)

    def is_gone(self) -> bool:
        try:
            os.stat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            pass
        return False

    @property
    def beside(self) -> str:
        return os.path.splitext(self.path)[0] + ".json"

    def sidecar(self) -> bytes | None:
        return read_file(self.beside) if os.path.lexists(self.beside) else None


@dataclass(frozen=True, slots=True)
class BytesSource(Source):
    """A photo that lies in no file."""

    payload: bytes

    def read(self) -> bytes:
        return self.payload


@dataclass(frozen=True, slots=True)
class MemberSource(Source):
    """A photo inside a `.zip` or `.tar`, read in place: nothing is unpacked, and no name becomes a path."""

    archive: str
    member: Member
    beside: Member | None

    def stamp(self) -> list:
        return [*stamp_of(self.archive), self.member.offset, self.member.size]

    def read(self) -> bytes:
        if self.member.size > MAX_BYTES:
            raise Rejected("too-many-bytes", f"{self.member.size:,} bytes; at most {MAX_BYTES:,} are read")
        return read_member(self.archive, self.member)

    def sidecar(self) -> bytes | None:
        return None if self.beside is None else read_member(self.archive, self.beside)


@dataclass(frozen=True, slots=True)
class RemoteSource(Source):
    url: str
    cache: str
    version: tuple = ()
    beside: tuple[str, tuple] | None = None  # the address and version of its sidecar

    def stamp(self) -> list:
        return [*self.version, *(self.beside[1] if self.beside else ())]

    @property
    def address(self) -> str | None:
        return public_address(self.url)

    def read(self) -> bytes:
        return read_file(str(fetch(self.url, Path(self.cache), self.version, MAX_BYTES)))

    def sidecar(self) -> bytes | None:
        return self.beside and read_file(str(fetch(self.beside[0], Path(self.cache), self.beside[1], MAX_BYTES)))


@dataclass(frozen=True, slots=True)
class BrokenSource(Source):
    """Something named by the input that cannot be opened at all; it gets its line in the report like the rest.

    hides: what the names of photos begin with that may be in there, unseen.
    """

    cause: str
    detail: str
    hides: str | None = None

    def read(self) -> bytes:
        raise Rejected(self.cause, self.detail)


def stamp_of(path: str) -> list:
    """Size, number and times of a file; nothing where there is none.

    Whoever puts another file in its place, or other bytes into it, cannot set the last time, that of its status.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return []
    return [status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns]


def read_file(path: str) -> bytes:
    """A regular file of reasonable size, or `Rejected`."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            raise Rejected("unreadable", "not a regular file")
        if status.st_size > MAX_BYTES:
            raise Rejected("too-many-bytes", f"{status.st_size:,} bytes; at most {MAX_BYTES:,} are read")
        return Path(path).read_bytes()
    except OSError as error:
        raise Rejected("unreadable", error.strerror or str(error)) from error


def find_sources(given: str | Path, cache: Path) -> list[Source]:
    """Everything that may be a photo in a folder, list file, archive or address, in the order of the names' bytes.

    Args:
        given: a folder (searched recursively, archives in it too); a `.txt`/`.lst` list of paths and addresses;
            a `.zip` or `.tar` (a WebDataset shard too); an address such as `s3://bucket/photos`; or a Hugging Face
            data set, `datasets://OWNER/NAME` (see `hub`).
        cache: folder for what is fetched from addresses.

    Raises:
        UsageError: there is no such thing, or it is of no known kind.
        DinogenError: nothing in it could be a photo, or an address cannot be listed.
    """
    sources = list_sources(given, cache)
    if not sources:
        raise nothing_in(given)
    return sources


def nothing_in(given: str | Path) -> DinogenError:
    return DinogenError(f"{given}: no image in it or below it; --input takes photos: JPEG, PNG, WebP, HEIC, AVIF")


def list_sources(given: str | Path, cache: Path) -> list[Source]:
    """As `find_sources`; an input without any is an empty list."""
    sources = {source.name: source for source in open_input(str(given), cache)}
    return sorted(sources.values(), key=lambda source: os.fsencode(source.name))


def name_of_input(given: str | Path) -> str:
    """What stays the same of an input from one run to the next: a whole path, or an address without its secrets."""
    text = str(given)
    if is_hub(text):
        return text
    return public_address(text) if is_address(text) else os.path.realpath(text)


def open_input(given: str, cache: Path) -> Iterator[Source]:
    """Tell the kinds of input apart."""
    path = Path(given)
    if is_hub(given):
        yield from open_hub(given, cache)
    elif is_address(given):
        yield from open_address(given, cache)
    elif not path.exists():
        raise UsageError(f"{given}: no such folder or file; --input takes a folder of photos, a list or an archive")
    elif path.is_dir():
        yield from open_folder(path)
    elif path.suffix.lower() in ARCHIVES:
        yield from open_archive(path, prefix="")
    elif given.lower().endswith(PACKED):
        raise UsageError(f"{given}: cannot be read in place; unpack it (gunzip), or pack it as .tar or .zip")
    elif path.suffix.lower() in LISTS:
        yield from open_list(path, cache)
    else:
        yield FileSource(path.name, str(path))


def open_folder(folder: Path) -> Iterator[Source]:
    closed: list[OSError] = []
    for path in walk(folder, closed.append):
        name = path.relative_to(folder).as_posix()
        if path.suffix.lower() in ARCHIVES:
            yield from open_archive(path, prefix=f"{name}/")
        else:
            yield FileSource(name, str(path))
    for error in closed:
        name = Path(error.filename).relative_to(folder).as_posix()
        yield BrokenSource(name, "unreadable", error.strerror or str(error), "" if name == "." else f"{name}/")


def open_archive(path: Path, prefix: str) -> Iterator[Source]:
    try:
        for member, beside in list_archive(path):
            yield MemberSource(prefix + member.name, str(path), member, beside)
    except Rejected as rejected:
        yield BrokenSource(prefix.rstrip("/") or path.name, rejected.cause, rejected.detail, prefix)


def open_list(path: Path, cache: Path) -> Iterator[Source]:
    """A line a photo: a path (relative ones from the list's folder) or an address; `#` begins a comment."""
    for line in list_lines(path):
        if line.startswith("#"):
            continue
        try:
            remote = is_address(line)
        except UsageError as error:
            yield BrokenSource(line, "refused-address", str(error))
        else:
            yield RemoteSource(line, line, str(cache)) if remote else FileSource(line, path_as_meant(path.parent, line))


def list_lines(path: Path) -> Iterator[str]:
    """The lines of a text file that are not empty, without white space around them."""
    # Not by `splitlines`, which ends a line at characters that may stand in a file's name.
    yield from filter(None, map(str.strip, re.split(r"[\r\n]+", read_text(path, errors="surrogateescape"))))


def path_as_meant(folder: Path, line: str) -> str:
    """The file that a line of a list names: as it stands, or else as Windows or a Mac writes the same path."""
    given = os.path.expanduser(line)
    paths = [given, given.replace("\\", "/")]
    forms = (folder / unicodedata.normalize(form, each) for form in ("NFC", "NFD") for each in paths)
    places = [*(folder / each for each in paths), *forms]
    return str(next((place for place in places if os.path.lexists(place)), places[0]))


def open_address(url: str, cache: Path) -> Iterator[Source]:
    if url.lower().endswith(tuple(ARCHIVES)):
        try:
            yield from open_archive(fetch(url, cache), prefix="")
        except Rejected as rejected:
            raise DinogenError(f"{url}: {rejected.detail}; check the address and try again") from rejected
        return
    found = list(list_remote(url))
    aside = side_files([name for name, _, _ in found])
    sidecars = {name: (address, version) for name, address, version in found if name in aside}
    for name, address, version in found:
        if name not in aside and not is_hidden(name):
            beside = sidecars.get(os.path.splitext(name)[0] + ".json")
            yield RemoteSource(name, address, str(cache), version, beside)


def open_hub(address: str, cache: Path) -> Iterator[Source]:
    """The pictures of a Hugging Face data set, from the cache; its rows without one get their line, too."""
    folder = cached_rows(address, cache)
    for row in read_rows(folder)[0]:
        if "file" in row:
            yield FileSource(row["file"], str(folder / row["file"]))
        else:
            yield BrokenSource(f"{row['split']}/{row['row']:08d}", row["cause"], row["detail"])


def walk(folder: Path, refuse: Callable[[OSError], object]) -> Iterator[Path]:
    """Files below `folder`, into linked folders too, each real folder once: links that form a loop come to an end.

    Args:
        folder: to search.
        refuse: is told why a folder cannot be listed.
    """
    seen = set()
    for root, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        try:
            status = os.stat(root)
        except OSError as error:
            refuse(error)
            continue
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        aside = side_files(files)
        for name in files:
            if not name.startswith(".") and name not in aside:
                yield Path(root, name)


def side_files(names: Sequence[str]) -> set[str]:
    """Those of some files' names that lie beside photos: by suffix, or as photo.npy beside photo.jpg."""
    photos = {name for name in names if os.path.splitext(name)[1].lower() in PHOTO_SUFFIXES}
    named = photos | {os.path.splitext(name)[0] for name in photos}  # photo.jpg.sha256 belongs to it, too

    def is_aside(name: str) -> bool:
        stem, suffix = os.path.splitext(name)
        is_picture = (mimetypes.guess_type(name)[0] or "").startswith("image/")  # a GIF gets its line in the report
        belongs = stem in named and suffix and suffix.lower() not in ARCHIVES and not is_picture
        return suffix.lower() in COMPANIONS or bool(belongs)

    return {name for name in set(names) - photos if is_aside(name)}
