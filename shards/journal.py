"""The record of a crop folder: what became of every source, and the only place that writes crops."""

import fcntl
import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from dinogen.errors import DinogenError, UsageError
from dinogen.files import fsync_path, plain_write_errors, write_bytes, write_json
from shards.duplicates import LookIndex, split_of
from shards.options import CropOptions
from shards.photo import ACCEPTED, Crop, Outcome
from shards.sources import Source

JOURNAL = "sources.jsonl"
TRY_AGAIN = {"unreadable", "unreachable"}  # may be better next time


class Journal:
    """`sources.jsonl`: the options, then a line for every source, appended after its crops are whole.

    It is written by one process, in the order of the sources. So what counts as a duplicate of what, and which split
    a photo is in, depend neither on the number of workers nor on interruptions.
    """

    def __init__(self, folder: Path, options: CropOptions):
        self.folder = folder
        self.path = folder / JOURNAL
        self.options = options
        self.records: dict[str, dict[str, Any]] = {}
        self.first_with: dict[str, str] = {}  # sha256 → the source that its crops were cut from
        self.looks = LookIndex()
        self.looked: list[str] = []  # the sources in `looks`, by their number
        self.number: dict[str, int] = {}  # source → its number there; a source that has changed has a new one

    def __enter__(self) -> "Journal":
        with plain_write_errors(self.path):
            self.file = self.path.open("a+", encoding="utf-8")
        try:
            self._lock()
            self._load()
        except BaseException:
            self.file.close()
            raise
        for leftover in self.folder.glob(".*.tmp*"):  # of a run that was killed while writing
            leftover.unlink()
        return self

    def __exit__(self, *exception: object) -> None:
        self.file.close()
        fsync_path(self.path)

    def _lock(self) -> None:
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DinogenError(f"{self.folder}: another crop is writing here; wait for it or stop it") from error

    def _load(self) -> None:
        self.file.seek(0)
        whole = 0
        header = None
        for line in iter(self.file.readline, ""):
            if not line.endswith("\n"):
                break  # killed while appending: that source is done again
            try:
                if header is None:
                    header = dict(json.loads(line))
                else:
                    self._remember(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise DinogenError(f"{self.path}: damaged at byte {whole}; delete the folder and crop again") from error
            whole = self.file.tell()
        self.file.truncate(whole)
        settings = asdict(self.options)
        if header is None:
            self._append(settings)
            return
        header = asdict(CropOptions()) | header  # an option that is newer than the folder had its default
        if changed := [f"{key} {header[key]}" for key in settings if header[key] != settings[key]]:
            raise UsageError(f"{self.folder}: holds crops made with {', '.join(changed)}; choose another --output")

    def knows(self, source: Source) -> bool:
        """Whether this source, unchanged since, has its line."""
        record = self.records.get(source.name)
        return record is not None and record["cause"] not in TRY_AGAIN and record["stamp"] == source.stamp()

    def add(self, source: Source, outcome: Outcome) -> None:
        """Write the crops of a source, unless it is a duplicate, then its line."""
        outcome, split = self._compare(source, outcome)
        self._forget(source, outcome.crops)
        for crop in outcome.crops:
            write_bytes(self.folder / f"{crop.key}.{self.options.format}", crop.picture)
            write_json(self.folder / f"{crop.key}.json", {**crop.metadata, "split": split})
        record = {
            "source": source.name,
            "stamp": source.stamp(),
            "sha256": outcome.sha256,
            "cause": outcome.cause,
            "detail": outcome.detail,
            "keys": [crop.key for crop in outcome.crops],
            "look": outcome.look,
            "split": split,
            "measures": outcome.measures,
        }
        self._append(record)
        self._remember(record)

    def _compare(self, source: Source, outcome: Outcome) -> tuple[Outcome, str | None]:
        """Look for the same photo among the earlier ones; settle the outcome and the split."""
        if outcome.cause != ACCEPTED or outcome.sha256 is None or outcome.look is None:
            return outcome, None
        original = self.first_with.get(outcome.sha256, source.name)
        if original != source.name:
            return replace(outcome, cause="duplicate", detail=f"the same bytes as {original}", crops=[]), None
        alike = [self.records[name] for name in self._looking_like(outcome.look) if name != source.name]
        if not alike:
            return outcome, split_of(outcome.sha256, self.options.val_fraction)
        splits = {record["split"] for record in alike}
        outcome = replace(outcome, detail=f"looks like {alike[0]['source']}")
        if self.options.duplicates == "drop" or len(splits) > 1:  # it must not join two splits
            return replace(outcome, cause="near-duplicate", crops=[]), None
        return outcome, splits.pop()

    def _looking_like(self, look: str) -> Iterable[str]:
        """The sources with crops whose photos look the same, the earliest first."""
        for number in self.looks.near(look):
            name = self.looked[number]
            if self.number.get(name) == number:
                yield name

    def _forget(self, source: Source, crops: list[Crop]) -> None:
        """Remove the crops of a source that has changed since."""
        kept = {crop.key for crop in crops}
        for key in self.records.get(source.name, {}).get("keys", []):
            if key not in kept:
                (self.folder / f"{key}.json").unlink(missing_ok=True)
                (self.folder / f"{key}.{self.options.format}").unlink(missing_ok=True)

    def _remember(self, record: dict[str, Any]) -> None:
        name = record["source"]
        old = self.records.get(name)
        if old is not None and self.first_with.get(old["sha256"]) == name:
            del self.first_with[old["sha256"]]
        self.number.pop(name, None)
        if record["keys"]:
            self.first_with.setdefault(record["sha256"], name)
            self.number[name] = self.looks.add(record["look"])
            self.looked.append(name)
        self.records[name] = {key: value for key, value in record.items() if key != "look"}  # `looks` holds it shorter

    def _append(self, entry: dict[str, Any]) -> None:
        with plain_write_errors(self.path):
            self.file.write(json.dumps(entry) + "\n")
            self.file.flush()
