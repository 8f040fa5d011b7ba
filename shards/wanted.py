"""Which samples of a data set somebody means who names keys or photos."""

import unicodedata
from collections import defaultdict
from collections.abc import Collection

from dinogen.data.schema import SampleRecord
from shards.plan import MIRROR_MARK
from shards.table import from_cell


class Wanted:
    """Collects samples one by one, and says then which were meant.

    Args:
        keys: of samples; the mirror image of a sample is meant with it.
        sources: of photos, each by its path, an end of its path, its sha256 or its address.
    """

    def __init__(self, keys: Collection[str], sources: Collection[str]):
        self.keys, self.sources = {key: unmirrored(key) for key in keys}, {name: plain(name) for name in sources}
        self._names = set(self.sources.values()) | set(sources)
        self._of_keys: dict[str, set[tuple[str, int]]] = defaultdict(set)
        self._of_photos: dict[str, set[tuple[str, int]]] = defaultdict(set)  # by sha256
        self._paths: dict[str, str] = {}  # by sha256
        self._exactly: dict[str, set[str]] = defaultdict(set)  # name → the sha256 of all photos that have it
        self._ending: dict[str, set[str]] = defaultdict(set)  # the same of those whose path ends so

    def look_at(self, shard: str, row: int, key: str, record: SampleRecord) -> None:
        """Take in one sample of the data set."""
        if (key := unmirrored(key)) in self.keys.values():
            self._of_keys[key].add((shard, row))
        sha256, path = record.source_sha256, plain(record.path or record.source)
        parts = path.split("/")
        endings = {"/".join(parts[first:]) for first in range(1, len(parts))} & self._names
        exact = {sha256, record.address, path} & self._names
        if not exact | endings:
            return
        self._of_photos[sha256].add((shard, row))
        self._paths[sha256] = path
        for name in exact:
            self._exactly[str(name)].add(sha256)
        for name in endings:
            self._ending[name].add(sha256)

    def missing(self) -> list[str]:
        """Names of nothing."""
        return sorted(
            [key for key, plain_key in self.keys.items() if plain_key not in self._of_keys]
            + [name for name in self.sources if not self._meant(name)]
        )

    def ambiguous(self) -> dict[str, dict[str, str]]:
        """Names of several photos: the sha256 of each, and its path."""
        meant = {name: sorted(self._meant(name), key=self._paths.__getitem__) for name in sorted(self.sources)}
        return {name: {sha256: self._paths[sha256] for sha256 in its} for name, its in meant.items() if len(its) > 1}

    def rows(self) -> dict[str, set[int]]:
        """The rows of all samples that were meant, by the name of their shard."""
        found: dict[str, set[int]] = {}
        meant = [self._of_photos[sha256] for name in self.sources for sha256 in self._meant(name)]
        for shard, row in set().union(*self._of_keys.values(), *meant):
            found.setdefault(shard, set()).add(row)
        return found

    def _meant(self, name: str) -> set[str]:
        """The photos of a name: one that has it all wins against those whose path only ends so."""
        forms = (name, self.sources[name])
        return set().union(*map(self._exactly.__getitem__, forms)) or self._ending[self.sources[name]]


def unmirrored(key: str) -> str:
    """The key of a sample, or of the one whose mirror image it is."""
    return key.removesuffix(MIRROR_MARK)


def plain(name: str) -> str:
    """A path in one form, however it was typed: as a report has it, in either Unicode form, with a `./` before it."""
    text = from_cell(name).encode("utf-8", "backslashreplace").decode()
    return unicodedata.normalize("NFC", text).removeprefix("./")
