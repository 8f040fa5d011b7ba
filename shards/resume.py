"""Which shards of a plan are there already: how packing continues after an interruption."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from dinogen.data.check import file_sha256
from dinogen.data.manifest import MANIFEST_NAME, Embedder, Manifest, ShardRecord, read_manifest
from dinogen.data.schema import CROP_SIZE
from dinogen.errors import DinogenError
from dinogen.files import is_hidden, make_output_folder, write_json
from dinogen.progress import progress
from dinogen.pyramid import StagedSpec
from shards.captions import Captions
from shards.plan import ShardPlan, digest_of

UNFINISHED = ".unfinished"  # a JSON for every shard that stands, until the manifest replaces them


class Finished:
    """The finished shards of an output folder.

    Args:
        output: an existing folder.
        specs: of the pyramids that are to be packed.
        how: the teacher computes, where that is not in fp32 as it is.
        crop_size: side of the crops in pixels.
        embedder: the CLIP that looks too; None without one.

    Raises:
        DinogenError: the folder holds shards of another spec, or tars that `pack` did not write.
    """

    def __init__(
        self,
        output: Path,
        specs: StagedSpec,
        how: str = "",
        crop_size: int = CROP_SIZE,
        embedder: Embedder | None = None,
    ):
        self.output = output
        self.crop_size = crop_size
        self.specs = specs
        self.embedder = embedder
        self.how = how
        self.folder = output / UNFINISHED
        self.records = self._read()

    def refuse_others(self, plans: Sequence[ShardPlan]) -> None:
        """Refuse a folder with shards that are in none of all `plans`."""
        others = set(self.records) - {plan.name for plan in plans}
        if others:
            raise self._refusal("of crops that are not in --input any more", min(others))

    def missing(self, plans: Sequence[ShardPlan], captions: Captions) -> list[ShardPlan]:
        """Those of `plans` whose shards are not there, or damaged. What a killed run left of them is removed.

        Raises:
            DinogenError: a shard stands that was made from other crops, records or captions.
        """
        for plan in plans:
            for leftover in self.output.glob(f".{plan.name}.tmp*"):
                leftover.unlink()
        standing = [plan for plan in plans if plan.name in self.records]
        checked = progress(standing, desc="check", unit="shard") if standing else ()
        whole = {plan.name for plan in checked if self._is_whole(plan, captions)}
        make_output_folder(self.folder)
        return [plan for plan in plans if plan.name not in whole]

    def add(self, record: ShardRecord) -> None:
        """Note a shard that has just got its name."""
        self.records[record.name] = record
        write_json(self.folder / f"{record.name}.json", {"shard": record.to_dict(), "stages": self.specs.to_dict()})

    def write_manifest(self, plans: Sequence[ShardPlan]) -> Manifest | None:
        """Write the manifest, from which on the folder is complete; None if shards of `plans` are still missing.

        The last of several ranks comes here when all shards stand. When two come at once, both write the same.
        """
        self.records = self._read() | self.records
        if any(plan.name not in self.records for plan in plans):
            return None
        shards = tuple(self.records[plan.name] for plan in plans)
        manifest = Manifest(self.specs, shards, self.crop_size, self.embedder)
        manifest.write(self.output)
        shutil.rmtree(self.folder, ignore_errors=True)
        return manifest

    def _read(self) -> dict[str, ShardRecord]:
        # Another rank may write the manifest and remove the notes meanwhile: look for the manifest last.
        tars = (path for path in self.output.glob("*.tar") if not is_hidden(path.name))
        foreign = any(tars) and not self.folder.exists()
        notes = self._read_notes()
        if (self.output / MANIFEST_NAME).exists():
            manifest = read_manifest(self.output)
            self._check_specs(MANIFEST_NAME, manifest.specs)
            return {record.name: record for record in manifest.shards}
        if foreign:
            raise self._refusal("that dinogen pack did not write", "*.tar")
        return notes

    def _read_notes(self) -> dict[str, ShardRecord]:
        records = {}
        for note in self.folder.glob("*.json"):
            if is_hidden(note.name):
                continue
            try:
                values = json.loads(note.read_bytes())
                record, specs = ShardRecord(**values["shard"]), StagedSpec.from_dict(values["stages"])
            except FileNotFoundError:
                continue
            except (ValueError, KeyError, TypeError) as error:
                raise DinogenError(f"{note}: damaged; delete it, and its shard is packed again") from error
            self._check_specs(record.name, specs)
            records[record.name] = record
        return records

    def _check_specs(self, name: str, specs: StagedSpec) -> None:
        if specs.fingerprint != self.specs.fingerprint:
            raise self._refusal(f"of {specs.describe()}, and this run packs {self.specs.describe()}", name)

    def _is_whole(self, plan: ShardPlan, captions: Captions) -> bool:
        record, path = self.records[plan.name], self.output / plan.name
        if record.input_sha256 != digest_of(plan, captions, self.specs, self.how):
            flags = "--shard-size, --clip, --precision or --compile"
            what = f"made from other crops, records or captions, or with another {flags}"
            raise self._refusal(what, plan.name)
        return path.is_file() and path.stat().st_size == record.bytes and file_sha256(path) == record.sha256

    def _refusal(self, what: str, name: str) -> DinogenError:
        return DinogenError(f"{self.output}: holds shards {what} ({name}); choose another --output or empty this one")
