"""What has become of the photos that crops were cut from: still there, renamed, moved, or gone. Content decides."""

import os
import sys
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from dinogen.advice import counted
from dinogen.errors import UsageError
from dinogen.progress import progress
from shards.decode import Rejected
from shards.journal import Journal
from shards.photo import Reading, read_again
from shards.pool import WorkerDied, ordered_map
from shards.sources import BrokenSource, Source

UNSEEN = {"unreadable", "unreachable", "damaged-archive"}  # causes that do not say that a photo is gone


def settle_moves(journal: Journal, sources: Sequence[Source], workers: int) -> set[str]:
    """Give the crops of photos that have moved to their new names, and delete those of photos that are gone.

    Nothing is read unless something is gone or changed, and no face is searched again. A photo that only cannot be
    opened just now keeps its crops.

    Args:
        journal: of the crops.
        sources: all that the input holds now.
        workers: processes that read.

    Returns:
        Names of those that have kept their crops unseen.

    Raises:
        UsageError: the crops are another input's, whose photos are not in this one.
    """
    listed = {source.name: source for source in sources}
    moved = journal.input != journal.given and bool(journal.owner)
    known = set() if moved else {source.name for source in sources if journal.knows(source)}
    hidden = tuple(source.hides for source in sources if isinstance(source, BrokenSource) and source.hides is not None)
    kept = {name for name in journal.records if name not in listed and name.startswith(hidden)}
    at_stake = [name for name in journal.owner.values() if name not in known | kept]
    stale = {name for name in journal.records if name not in listed}
    if at_stake:
        readings = read_all([source for source in sources if source.name not in known], workers)
        if moved:
            refuse_others(journal, readings)
        stale |= {name for name in readings if name in journal.records and changed(journal, name, readings)}
        unseen, settled = hand_over(journal, listed, at_stake, readings)
        kept |= unseen
        stale = (stale | set(at_stake)) - settled
    journal.move()
    lost = [name for name in journal.records if name in stale - kept]
    gone = [name for name in lost if name not in listed or listed[name].is_gone()]
    say_gone(journal, [name for name in gone if journal.records[name]["keys"]])
    journal.forget(lost)
    return kept


def read_all(sources: Sequence[Source], workers: int) -> dict[str, Reading]:
    """What each source holds now, by its name."""
    found = ordered_map(lambda: read_again, sources, min(workers, len(sources)))
    died = Rejected("unreadable", "the process that read it died")
    return {
        source.name: Reading([], refused=died) if isinstance(reading, WorkerDied) else reading
        for source, reading in progress(found, len(sources), "look for moved photos")
    }


def changed(journal: Journal, name: str, readings: Mapping[str, Reading]) -> bool:
    """Whether a name stands for another photo than before."""
    return readings[name].sha256 != journal.records[name]["sha256"]


def refuse_others(journal: Journal, readings: Mapping[str, Reading]) -> None:
    """Refuse an input that is not the one of the crops, nor the place where their photos are now.

    Raises:
        UsageError: names both.
    """
    present = {reading.sha256 for reading in readings.values()}
    absent = [name for sha256, name in journal.owner.items() if sha256 not in present]
    count = len(journal.owner)
    if 2 * len(absent) > count or any(is_still_in(journal.input, name) for name in absent):
        before = f"--input {journal.input}" if journal.input else "another --input"
        raise UsageError(
            f"{journal.folder}: holds crops of {before}, and {count - len(absent)} of their {counted(count, 'photo')} "
            f"are in {journal.given}; choose another --output, or give a folder that holds both, as itself or by links"
        )


def is_still_in(given: str | None, name: str) -> bool:
    """Whether an input on this machine still holds a photo: the folder that does, or an archive or list itself."""
    return given is not None and (os.path.isfile(given) or os.path.exists(os.path.join(given, name)))


def hand_over(
    journal: Journal, listed: Mapping[str, Source], at_stake: Collection[str], readings: Mapping[str, Reading]
) -> tuple[set[str], set[str]]:
    """Give crops to the sources that hold their photos now.

    Args:
        journal: of the crops.
        listed: all sources by their names.
        at_stake: sources with crops that are gone, or may have changed.
        readings: of all sources that are not known to be as they were.

    Returns:
        Those whose photo could not be seen, and those that have crops of the photo that they hold.
    """
    lines = {name: journal.whole(name) for name in at_stake}
    places = defaultdict(list)
    for name in listed:
        record = journal.records.get(name)
        sha256 = readings[name].sha256 if name in readings else record and record["sha256"]
        places[sha256].append(name)
    unseen, settled = set(), set()
    for owner, line in lines.items():
        if owner in listed and may_be_there(listed[owner], readings[owner], line["sha256"]):
            unseen.add(owner)
            continue
        for heir in sorted(places[line["sha256"]], key=lambda name: name != owner):  # itself, or else the first
            if journal.adopt(line, listed[heir], readings.get(heir) or read_again(listed[heir])):
                settled.add(heir)
                break
    journal.delete({key for line in lines.values() for key in line["keys"]})  # of names that stand for others now
    return unseen, settled


def may_be_there(source: Source, reading: Reading, sha256: str) -> bool:
    """Whether a source may still be the photo with this sha256, though it or its sidecar could not be read."""
    refused = reading.refused is not None and reading.refused.cause in UNSEEN
    return refused and reading.sha256 in (None, sha256) and not source.is_gone()


def say_gone(journal: Journal, names: Sequence[str]) -> None:
    """Nothing is deleted in silence."""
    if names:
        print(
            f"{counted(len(names), 'photo')} with crops left {journal.given}, such as {min(names)}; their crops are "
            f"deleted in {journal.folder}.",
            file=sys.stderr,
        )
