"""The record of a crop folder: what became of every source, and the only place that writes crops."""

import json
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from dinogen.errors import DinogenError, UsageError
from dinogen.files import fsync_path, plain_write_errors, remove_leftovers, write_bytes, write_json
from shards.duplicates import LookIndex, split_of
from shards.options import CropOptions
from shards.photo import ACCEPTED, DUPLICATE, PROVENANCE, Outcome, Reading
from shards.sources import Source

JOURNAL = "sources.jsonl"
WRITING = ".writing"  # the keys of the crops that are being written: a killed run leaves them without a line
TRY_AGAIN = {"unreadable", "unreachable", "needs-package"}  # may be better next time
NEAR_DUPLICATE = "near-duplicate"


class Journal:
    """`sources.jsonl`: the options and the input, then a line for every source, appended after its crops are whole.

    It is written by one process, in the order of the sources. So what counts as a duplicate of what, and which split
    a photo is in, depend neither on the number of workers nor on interruptions. A later line counts more than an
    earlier one. A line with `gone` says which sources and crops are not there any more.

    Args:
        folder: of the crops; whoever opens its journal holds its lock.
        options: that the crops are made with.
        input: that they are made from, see `name_of_input`.
    """

    def __init__(self, folder: Path, options: CropOptions, input: str):
        self.folder = folder
        self.path = folder / JOURNAL
        self.options = options
        self.given = input
        self.input: str | None = None  # that the crops here were made from; None of an older folder
        self.records: dict[str, dict[str, Any]] = {}
        self.owner: dict[str, str] = {}  # sha256 → the source that its crops belong to
        self.looks = LookIndex()
        self.looked: list[str] = []  # the sources in `looks`, by their number
        self.number: dict[str, int] = {}  # source → its number there; a source that has changed has a new one

    def __enter__(self) -> "Journal":
        with plain_write_errors(self.path):
            self.file = self.path.open("a+", encoding="utf-8")
        try:
            self._load()
        except BaseException:
            self.file.close()
            raise
        remove_leftovers(self.folder)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.file.close()
        fsync_path(self.path)
        if error is None:
            (self.folder / WRITING).unlink(missing_ok=True)

    def _load(self) -> None:
        self.file.seek(0)
        whole = 0
        header = None
        dropped: set[str] = set()
        for line in iter(self.file.readline, ""):
            if not line.endswith("\n"):
                break  # killed while appending: that source is done again
            try:
                if header is None:
                    header = dict(json.loads(line))
                    self.input = header.get("input")
                else:
                    dropped |= self._replay(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise DinogenError(f"{self.path}: damaged at byte {whole}; delete the folder and crop again") from error
            whole = self.file.tell()
        self.file.truncate(whole)
        settings = asdict(self.options)
        if header is None:
            self.input = self.given
            self._append(settings | {"input": self.input})
            return
        header = asdict(CropOptions()) | header  # an option that is newer than the folder had its default
        if changed := [f"{key} {header[key]}" for key in settings if header[key] != settings[key]]:
            raise UsageError(f"{self.folder}: holds crops made with {', '.join(changed)}; choose another --output")
        self.delete(dropped | self._half_written())

    def _replay(self, entry: dict[str, Any]) -> set[str]:
        """Take in one line; returns the keys of crops that have lost their source by it."""
        if "gone" in entry:
            self._drop(entry["gone"])
            return set(entry["keys"])
        if "source" not in entry:
            self.input = str(entry["input"])
            return set()
        return self._remember(entry)

    def knows(self, source: Source) -> bool:
        """Whether this source, unchanged since, has its line."""
        record = self.records.get(source.name)
        return record is not None and record["cause"] not in TRY_AGAIN and record["stamp"] == source.stamp()

    def told(self, name: str) -> dict[str, Any]:
        """The record of a source, with what it looks like by the name that it has now."""
        record = self.records[name]
        others = [self.owner[sha256] for sha256 in likes_of(record) if sha256 in self.owner]
        if not others or others[0] == name:
            return record
        what = "the same bytes as" if record["cause"] == DUPLICATE else "looks like"
        return record | {"detail": f"{what} {others[0]}"}

    # ---- what is added

    def add(self, source: Source, outcome: Outcome) -> None:
        """Write the crops of a source, unless it is a duplicate, then its line."""
        outcome, split, like = self._compare(source, outcome)
        keys = [crop.key for crop in outcome.crops]
        if keys:
            with plain_write_errors(self.folder):
                (self.folder / WRITING).write_text(json.dumps(keys))
        for crop in outcome.crops:
            write_bytes(self._picture(crop.key), crop.picture)
            write_json(self._description(crop.key), {**crop.metadata, "split": split})
        self._note({
            "source": source.name,
            "stamp": outcome.stamp,
            "sha256": outcome.sha256,
            "cause": outcome.cause,
            "detail": outcome.detail,
            "keys": keys,
            "like": like,
            "look": outcome.look,
            "split": split,
            "measures": outcome.measures,
        })  # fmt: skip

    def _compare(self, source: Source, outcome: Outcome) -> tuple[Outcome, str | None, list[str]]:
        """Look for the same photo among the earlier ones; settle the outcome, the split, and which ones those are."""
        if outcome.cause not in (ACCEPTED, DUPLICATE) or outcome.sha256 is None:
            return outcome, None, []
        if self.owner.get(outcome.sha256, source.name) != source.name:
            return replace(outcome, cause=DUPLICATE, crops=[], look=None, measures={}), None, [outcome.sha256]
        assert outcome.look is not None
        alike = [self.records[name] for name in self._looking_like(outcome.look) if name != source.name]
        like = [record["sha256"] for record in alike]
        splits = {record["split"] for record in alike}
        if not alike:
            return outcome, split_of(outcome.sha256, self.options.val_fraction), []
        if self.options.duplicates == "drop" or len(splits) > 1:  # it must not join two splits
            return replace(outcome, cause=NEAR_DUPLICATE, crops=[]), None, like
        return outcome, splits.pop(), like

    def _looking_like(self, look: str) -> Iterable[str]:
        """The sources with crops whose photos look the same, the earliest first."""
        for number in self.looks.near(look):
            name = self.looked[number]
            if self.number.get(name) == number:
                yield name

    # ---- what moves and what goes

    def whole(self, name: str) -> dict[str, Any]:
        """The line of a source that has crops."""
        return self.records[name] | {"look": self.looks.looks[self.number[name]].tobytes().hex()}

    def adopt(self, line: dict[str, Any], source: Source, reading: Reading) -> bool:
        """Give crops to the source that holds their photo now; False where that cannot be.

        Args:
            line: of the source that they belonged to, see `whole`.
            source: with the same bytes.
            reading: of it.
        """
        if reading.provenance is None or reading.sha256 != line["sha256"]:
            return False
        described = {}
        for key in line["keys"]:
            try:
                described[key] = dict(json.loads(self._description(key).read_bytes()))
            except FileNotFoundError:
                continue  # somebody has taken this crop out by hand
            except (OSError, ValueError, TypeError):
                return False
        for key, values in described.items():
            kept = {name: value for name, value in values.items() if name not in PROVENANCE}
            write_json(self._description(key), kept | reading.provenance)
        self._note(line | {"source": source.name, "stamp": reading.stamp}, keep=True)
        return True

    def forget(self, names: Collection[str]) -> None:
        """Drop sources, and delete their crops unless another source has them."""
        keys = sorted({key for name in names for key in self.records[name]["keys"]})
        if not names:
            return
        self._append({"gone": sorted(names), "keys": keys})  # before they are deleted: that can be done again
        self._drop(names)
        self.delete(keys)

    def move(self) -> None:
        """Note that the photos come from the given input now."""
        if self.given != self.input:
            self._append({"input": self.given})
            self.input = self.given

    def unsettled(self) -> list[str]:
        """Sources that were turned away because of others which are gone."""
        return [
            name
            for name, record in self.records.items()
            if record["cause"] in (DUPLICATE, NEAR_DUPLICATE) and not self.owner.keys() >= set(likes_of(record))
        ]

    # ---- lines and files

    def _note(self, record: dict[str, Any], keep: bool = False) -> None:
        self._append(record)
        orphans = self._remember(record)
        if not keep:
            self.delete(orphans)

    def _remember(self, record: dict[str, Any]) -> set[str]:
        """Take in the line of a source; returns the keys of crops that it had before, and has no more."""
        name = record["source"]
        others = {name, self.owner.get(record["sha256"], name)} if record["keys"] else {name}
        before = {key for other in others & self.records.keys() for key in self.records[other]["keys"]}
        self._drop(others)
        if record["keys"]:
            self.owner[record["sha256"]] = name
            self.number[name] = self.looks.add(record["look"])
            self.looked.append(name)
        self.records[name] = {key: value for key, value in record.items() if key != "look"}  # `looks` holds it shorter
        return before - set(record["keys"])

    def _drop(self, names: Collection[str]) -> None:
        for name in names:
            record = self.records.pop(name, None)
            if record is not None and self.owner.get(record["sha256"]) == name:
                del self.owner[record["sha256"]]
            self.number.pop(name, None)

    def delete(self, keys: Collection[str]) -> None:
        """Delete crops that belong to no source."""
        owned = {key for name in self.owner.values() for key in self.records[name]["keys"]} if keys else set()
        with plain_write_errors(self.folder):
            for key in set(keys) - owned:
                self._description(key).unlink(missing_ok=True)
                self._picture(key).unlink(missing_ok=True)

    def _half_written(self) -> set[str]:
        """The keys of the crops that a killed run was writing."""
        path = self.folder / WRITING
        keys: set[str] = set()
        with suppress(OSError, ValueError, TypeError):  # cut off: it had not begun to write crops
            keys = {key for key in json.loads(path.read_bytes()) if "/" not in key}
        path.unlink(missing_ok=True)
        return keys

    def _picture(self, key: str) -> Path:
        return self.folder / f"{key}.{self.options.format}"

    def _description(self, key: str) -> Path:
        return self.folder / f"{key}.json"

    def _append(self, entry: dict[str, Any]) -> None:
        with plain_write_errors(self.path):
            self.file.write(json.dumps(entry) + "\n")
            self.file.flush()


def likes_of(record: dict[str, Any]) -> list[str]:
    """The sha256 of the photos that a source is a duplicate of, or looks like."""
    unknown = {DUPLICATE: [record["sha256"]], NEAR_DUPLICATE: [""]}  # of folders from before these were noted
    return record["like"] if "like" in record else unknown.get(record["cause"], [])
