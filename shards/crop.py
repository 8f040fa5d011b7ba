"""The folder job: photos → a folder of crops, restartable, with a record and a report of each photo's fate."""

import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from dinogen.data.transfer import default_cache
from dinogen.errors import DinogenError, UsageError
from dinogen.files import make_output_folder
from dinogen.progress import progress_bar
from shards.hub import is_hub
from shards.journal import Journal
from shards.options import CropOptions, require
from shards.photo import ACCEPTED, Cropper, Outcome
from shards.pool import WorkerDied, ordered_map
from shards.remote import is_address
from shards.report import count_causes, write_report
from shards.retinaface import choose_weights
from shards.sources import find_sources

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

    Running it again continues where it stopped; photos that were added or changed are done, others not read again.
    The crops depend on the photos and the options only, not on `workers` or interruptions.

    Args:
        input: a folder, list, archive or address; see `find_sources`.
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
    sources = find_sources(input, cache or default_cache())
    settings = settle(options)
    make_output_folder(output)
    with Journal(output, settings) as journal:
        todo = [source for source in sources if not journal.knows(source)]
        workers = len(os.sched_getaffinity(0)) if workers is None else workers
        workers = min(workers, -(-len(todo) // PER_WORKER))
        resumed = len(sources) - len(todo)
        with progress_bar(len(sources), "crop", initial=resumed) as bar:
            for source, outcome in ordered_map(partial(Cropper, settings), todo, workers):
                if isinstance(outcome, WorkerDied):
                    outcome = Outcome("decoder-crashed", "the process that decoded it died")
                journal.add(source, outcome)
                bar.update()
        records = [journal.records[source.name] for source in sources]
        write_report(output, sources, records, settings)
    causes = count_causes(records)
    accepted = causes.pop(ACCEPTED, 0)
    if not accepted:
        raise DinogenError(f"{input}: no face in any of {len(sources)} files ({', '.join(listed(causes))})")
    return CropSummary(len(sources), accepted, sum(len(record["keys"]) for record in records), resumed, causes)


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
