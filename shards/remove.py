"""Taking somebody out of a data set: the shards that hold them are written anew without them."""

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from dinogen.data.manifest import Manifest, ShardRecord, read_manifest
from dinogen.data.schema import EMBEDDING_SUFFIX, PYRAMID_SUFFIX, SampleRecord
from dinogen.data.shard import Shard
from dinogen.data.store import open_shard
from dinogen.errors import DinogenError, UsageError
from dinogen.files import write_json
from dinogen.folder_lock import FolderLock
from dinogen.progress import progress
from shards.card import renew_cards
from shards.plan import Crop, InputDigest
from shards.tar import write_tar
from shards.wanted import Wanted

SHARD_NAME = re.compile(r"(?P<stem>shard-\d{6})(-(?P<revision>\d+))?\.tar")
MOST_NAMED = 10  # photos that a name may mean
JOURNAL = ".removal.json"  # from before the new manifest until the old shards are deleted


@dataclass(frozen=True)
class Removal:
    """What was taken out, and what is left."""

    keys: tuple[str, ...]
    manifest: Manifest


def remove_samples(data: Path, keys: Collection[str] = (), sources: Collection[str] = ()) -> Removal:
    """Rewrite the shards that hold these samples, and the manifest, without them.

    A rewritten shard gets a new name (shard-000003-1.tar), and the new manifest puts all of them in force at once;
    then the old files are deleted, and the data set's card is counted anew. After an interruption the same call
    continues.

    Args:
        data: folder of shards.
        keys: of the samples; mirror images go with them.
        sources: paths below the photos' folder, file names, sha256 or addresses of the source pictures whose samples
            are meant. Each means one picture.

    Raises:
        UsageError: neither keys nor sources.
        DinogenError: something named is not there, a name may be several pictures, nothing would be left, or another
            process writes here. Nothing is changed then.
    """
    names = set(keys) | set(sources)
    if not names:
        raise UsageError("nothing to remove: give --key or --source")
    read_manifest(data)
    with FolderLock(data, "is removing samples"):
        return _remove(data, names, keys, sources)


def _remove(data: Path, names: set[str], keys: Collection[str], sources: Collection[str]) -> Removal:
    manifest = read_manifest(data)
    names -= finish_interrupted(data, manifest)
    if not names:
        return Removal((), manifest)
    found = find_rows(data, manifest, names & set(keys), names & set(sources))
    if manifest.samples == sum(len(rows) for rows in found.values()):
        raise DinogenError(f"{data}: all of its samples would be removed; delete the folder instead")
    replaced = sorted(found)
    write_json(data / JOURNAL, {"names": sorted(names), "old": replaced, "new": [next_name(name) for name in replaced]})
    removed: list[str] = []
    shards: list[ShardRecord] = []
    for record in manifest.shards:
        if record.name not in found:
            shards.append(record)
            continue
        shard = open_shard(data / record.name, record)
        removed += [shard.keys[row] for row in sorted(found[record.name])]
        if len(found[record.name]) < record.samples:
            shards.append(write_without(found[record.name], shard, record, manifest))
        shard.close()
    manifest = replace(manifest, shards=tuple(shards))
    manifest.write(data)
    finish_interrupted(data, manifest)
    return Removal(tuple(removed), manifest)


def finish_interrupted(data: Path, manifest: Manifest) -> set[str]:
    """Delete the files of a removal that the manifest does not list; the names that were removed by it.

    Raises:
        DinogenError: its record cannot be read.
    """
    path = data / JOURNAL
    if not path.exists():
        return set()
    try:
        journal = json.loads(path.read_bytes())
        old, new, names = (set(map(str, journal[key])) for key in ("old", "new", "names"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        remedy = "delete it, and the files that dinogen verify says are not in the manifest; then remove again"
        raise DinogenError(f"{path}: the record of an interrupted removal is damaged; {remedy}") from error
    listed = {shard.name for shard in manifest.shards}
    for name in (old | new) - listed:
        (data / Path(name).name).unlink(missing_ok=True)
    renew_cards(data)
    path.unlink()
    return set() if listed & old else names


def find_rows(data: Path, manifest: Manifest, keys: Collection[str], sources: Collection[str]) -> dict[str, set[int]]:
    """Rows of the wanted samples by shard name.

    Raises:
        DinogenError: something named is not there, or may be one of several photos.
    """
    wanted = Wanted(keys, sources)
    for record in progress(manifest.shards, desc="search", unit="shard"):
        shard = open_shard(data / record.name, record)
        for row, key in enumerate(shard.keys):
            wanted.look_at(record.name, row, key, SampleRecord.from_bytes(shard.read(row, "record")))
        shard.close()
    if missing := wanted.missing():
        raise DinogenError(
            f"{data}: holds nothing of {', '.join(missing)}; nothing was changed. If report.csv says that it is a "
            "duplicate, give its sha256"
        )
    for name, photos in wanted.ambiguous().items():
        candidates = ", ".join(f"{path} (sha256 {sha256[:16]}…)" for sha256, path in list(photos.items())[:MOST_NAMED])
        raise DinogenError(
            f"{data}: {name} may be {len(photos)} photos: {candidates}{' …' * (len(photos) > MOST_NAMED)}; give the "
            "path of one as in report.csv, or its whole sha256; nothing was changed"
        )
    return wanted.rows()


def write_without(rows: set[int], shard: Shard, record: ShardRecord, manifest: Manifest) -> ShardRecord:
    """Write a shard's next revision, which lacks some rows."""
    name = next_name(record.name)
    digest = InputDigest(manifest.specs)
    kept = [row for row in range(len(shard)) if row not in rows]

    def samples() -> Iterator[tuple[Crop, dict[str, bytes]]]:
        for row in kept:
            suffix = shard.image_name(row).partition(".")[2]
            crop = Crop(shard.keys[row], suffix, shard.read(row, "image"), shard.read(row, "record"))
            digest.add(crop)
            numbers = {PYRAMID_SUFFIX: shard.read(row, "pyramid"), EMBEDDING_SUFFIX: shard.read(row, "embedding")}
            yield crop, {suffix: payload for suffix, payload in numbers.items() if payload}

    size, sha256 = write_tar(shard.path.with_name(name), samples())
    return ShardRecord(name, size, sha256, len(kept), record.split, digest.hexdigest(), **digest.counted.to_dict())


def next_name(name: str) -> str:
    """The file name of a shard's next revision."""
    match = SHARD_NAME.fullmatch(name)
    if match is None:
        raise DinogenError(f"{name}: not a name that dinogen pack gives; this data cannot be rewritten")
    return f"{match['stem']}-{int(match['revision'] or 0) + 1}.tar"
