"""Which photos a name means that somebody wrote down: a file name or a path, in either Unicode form."""

import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import NamedTuple

Parts = tuple[str, ...]


class Photo(NamedTuple):
    """A photo as the records of its crops name it: by its file name, and the sha256 of its bytes in hex."""

    source: str
    sha256: str


def parts_of(name: str) -> Parts:
    """The folders and the file name of a path, of Windows or not, in one Unicode form."""
    text = unicodedata.normalize("NFC", name).replace("\\", "/").strip()
    return tuple(part for part in text.split("/") if part not in ("", "."))


def without_suffix(parts: Parts) -> Parts:
    """The same path without the suffix of its file name."""
    return (*parts[:-1], PurePosixPath(parts[-1]).stem)


def agree(one: Parts, other: Parts) -> bool:
    """Whether two paths may mean one file: where both name a folder, they name the same."""
    return all(mine == its for mine, its in zip(reversed(one), reversed(other)))


class PhotoNames:
    """Photos by their paths, found by any end of them, or by a longer path that ends so.

    Args:
        paths: a path below the photos' folder, or a file name, and what it means. What means nothing else is None.
    """

    def __init__(self, paths: Iterable[tuple[str, Photo | None]]):
        self.known: list[tuple[str, Photo | None]] = list(paths)
        self._by_name: dict[str, list[tuple[Parts, Photo | None]]] = {}
        self._by_stem: dict[str, list[tuple[Parts, Photo | None]]] = {}
        for path, photo in self.known:
            if parts := parts_of(path):
                self._by_name.setdefault(parts[-1], []).append((parts, photo))
                stem = without_suffix(parts)
                self._by_stem.setdefault(stem[-1], []).append((stem, photo))

    def find(self, name: str) -> list[tuple[Parts, Photo | None]]:
        """What a name means, with paths, which of a name without a suffix have none either.

        Of several, those that agree in most folders. There are several left where only a folder would tell them apart.
        """
        wanted = parts_of(name)
        if not wanted:
            return []
        for index in (self._by_name, self._by_stem):
            found = [entry for entry in index.get(wanted[-1], ()) if agree(wanted, entry[0])]
            if not found:
                continue
            exact = [entry for entry in found if entry[0] == wanted]
            most = max(min(len(wanted), len(parts)) for parts, _ in found)
            return exact or [entry for entry in found if min(len(wanted), len(entry[0])) == most]
        return []
