"""The folder job: photos → a folder of crops, restartable, with a record and a report of each photo's fate."""

import os
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from dinogen.data.transfer import default_cache
from dinogen.errors import DinogenError, UsageError
from dinogen.folder_lock import FolderLock
from dinogen.progress import progress_bar
from shards.hub import is_hub
from shards.journal import JOURNAL, Journal
from shards.moves import settle_moves
from shards.options import CropOptions, require
from shards.photo import ACCEPTED, Cropper, Outcome
from shards.pool import WorkerDied, ordered_map
from shards.remote import is_address
from shards.report import count_causes, write_report
from shards.retinaface import choose_weights
from shards.sources import BrokenSource, Source, list_sources, name_of_input, nothing_in

PER_WORKER = 16  # fewer photos than this are not worth the seconds that a process takes to start


@dataclass(frozen=True)
class CropSummary:
    """What became of all photos of an input, in this run and earlier ones.

    sources: files that may be photos. accepted: those that gave crops. crops: how many.
    resumed: sources settled by an earlier run. causes: counts of the sources without crops.
    """

    sources: int
    accepted: int
    crops: int
    resumed: int
    causes: dict[str, int]

    def __str__(self) -> str:
        return ", ".join([f"{self.crops} crops of {self.accepted} of {self.sources} photos", *listed(self.causes)])


def crop_folder(
    input: str | Path,
    output: str | Path,
    options: CropOptions = CropOptions(),
    *,
    workers: int | None = None,
    cache: Path | None = None,
) -> CropSummary:
    """Cut every wanted face of `input` into `output`: `KEY.jpg` (or `.png`), `KEY.json`, the record and the report.

    Running it again continues where it stopped: then there are crops of the photos that are there now, and of no
    others. Photos that were added or changed are searched for faces; those that were renamed or moved keep their
    crops. The crops depend on the photos and the options only, not on `workers` or interruptions.

    Args:
        input: a folder, list, archive or address; see `find_sources`. A folder of crops belongs to one.
        output: folder of crops; made if it is not there.
        options: what decides about the crops.
        workers: processes; by default one a usable core, fewer for few photos.
        cache: folder for what is fetched from addresses; by default the user's cache.

    Raises:
        UsageError: `input` is missing, or `output` cannot go with it or with these options.
        DinogenError: no photo, no face in any of them, or no room to write.
    """
    output = Path(output)
    require("workers", workers or 0, 0)
    refuse_overlap(str(input), output)
    sources = list_sources(input, cache or default_cache())
    if not sources and not (output / JOURNAL).is_file():
        raise nothing_in(input)
    settings = settle(options)
    most = len(os.sched_getaffinity(0)) if workers is None else workers
    with FolderLock(output, "is cropping"), Journal(output, settings, name_of_input(input)) as journal:
        if not sources and journal.input != journal.given:
            raise nothing_in(input)
        kept = settle_moves(journal, sources, most)
        journal.forget(journal.unsettled())
        todo = [source for source in sources if not journal.knows(source) and source.name not in kept]
        workers = min(most, -(-len(todo) // PER_WORKER))
        resumed = len(sources) - len(todo)
        with progress_bar(len(sources), "crop", initial=resumed) as bar:
            for source, outcome in ordered_map(partial(Cropper, settings, journal.owner), todo, workers):
                if isinstance(outcome, WorkerDied):
                    outcome = Outcome("decoder-crashed", "the process that decoded it died", stamp=source.stamp())
                journal.add(source, outcome)
                bar.update()
        sources, records = all_told(journal, sources, kept)
        write_report(output, sources, records, settings)
    if not sources:
        raise nothing_in(input)
    causes = count_causes(records)
    accepted = causes.pop(ACCEPTED, 0)
    if not accepted:
        raise DinogenError(f"{input}: no face in any of {len(sources)} files ({', '.join(listed(causes))})")
    return CropSummary(len(sources), accepted, sum(len(record["keys"]) for record in records), resumed, causes)


def all_told(
    journal: Journal, sources: list[Source], kept: Collection[str]
) -> tuple[list[Source], list[dict[str, Any]]]:
    """All sources with their records, those that could not be looked into among them."""
    unseen = "could not be read this time; its crops are of an earlier run"
    names = {source.name for source in sources}
    sources = [*sources, *(BrokenSource(name, "unreadable", unseen) for name in sorted(set(kept) - names))]
    records = [journal.told(source.name) for source in sources]
    return sources, [record | {"detail": unseen} if record["source"] in kept else record for record in records]


def settle(options: CropOptions) -> CropOptions:
    """Settle which detector it is, and fetch its weights, before any process starts."""
    given = Path(options.detector_weights) if options.detector_weights else None
    name, weights = choose_weights(options.detector, given)
    return replace(options, detector=name, detector_weights=str(weights) if weights else None)


def refuse_overlap(given: str, output: Path) -> None:
    """Crops below the input would be taken for photos by the next run."""
    if not is_hub(given) and not is_address(given) and output.resolve().is_relative_to(Path(given).resolve()):
        raise UsageError(f"{output}: lies inside --input, so crops would be taken for photos; choose another --output")


def listed(causes: dict[str, int]) -> list[str]:
    return [f"{count} {cause}" for cause, count in sorted(causes.items())]
