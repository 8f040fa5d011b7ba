"""`manifest.json`, the list of a data set's shards: what a loader trusts and checks against."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from dinogen.advice import no_folder
from dinogen.data.mistaken import steps_before
from dinogen.data.schema import CROP_SIZE, CROP_SIZES, DEFAULT_SPLIT
from dinogen.errors import DinogenError, first_line
from dinogen.files import write_json
from dinogen.pyramid import StagedSpec

MANIFEST_NAME = "manifest.json"
SCHEMA_VERSION = 2
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ShardRecord:
    """One shard as the manifest lists it.

    Args:
        name: file name, `shard-000000.tar`.
        bytes: size of the file.
        sha256: of the file, in hex.
        samples: number of samples.
        split: of all its samples; no shard mixes splits.
        input_sha256: of the crops, records and spec that it was made from, in hex.
        captioned: number of samples with a caption; None in shards of earlier versions, which did not count.
        licences: number of samples of each licence as it was given; None in shards of earlier versions.
        consents: the same of consents.
    """

    name: str
    bytes: int
    sha256: str
    samples: int
    split: str
    input_sha256: str
    captioned: int | None = None
    licences: Mapping[str, int] | None = None
    consents: Mapping[str, int] | None = None

    def to_dict(self) -> dict:
        """For files; what was not counted is left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Embedder:
    """The CLIP that looked at the crops beside the teacher.

    Args:
        name: a hub id or a folder.
        fingerprint: of its half for images, as `ClipImages` has it.
        text_fingerprint: of its half for captions, as a text encoder has it: their vectors lie in one space.
        width: D, the length of an embedding.
    """

    name: str
    fingerprint: str
    text_fingerprint: str
    width: int

    def __post_init__(self) -> None:
        kinds = {"name": str, "fingerprint": str, "text_fingerprint": str, "width": int}
        if any(type(getattr(self, key)) is not kind for key, kind in kinds.items()) or not 0 < self.width <= 2**16:
            raise ValueError("embedder")

    def describe(self) -> str:
        """For people."""
        return f"{self.name} ({self.fingerprint}), {self.width} numbers a sample"


@dataclass(frozen=True)
class Manifest:
    """All shards of a data set.

    Args:
        specs: of their pyramids.
        shards: in order.
        crop_size: side of every crop in pixels: no generator can be trained above this resolution.
        embedder: whose embeddings they hold; None in shards without.
    """

    specs: StagedSpec
    shards: tuple[ShardRecord, ...]
    crop_size: int = CROP_SIZE
    embedder: Embedder | None = None

    @property
    def samples(self) -> int:
        return sum(shard.samples for shard in self.shards)

    @property
    def splits(self) -> dict[str, int]:
        """Number of samples of each split."""
        counts: Counter[str] = Counter()
        for shard in self.shards:
            counts[shard.split] += shard.samples
        return dict(counts)

    def captioned(self, split: str | None = None) -> int | None:
        """Number of samples with a caption, of one split or of all; None if a shard's were not counted."""
        counts = [shard.captioned for shard in self.shards if split in (None, shard.split)]
        return None if None in counts else sum(filter(None, counts))

    def terms(self, kind: Literal["licences", "consents"]) -> dict[str, int] | None:
        """Number of samples of each licence or consent; None if a shard's were not counted."""
        counts: Counter[str] = Counter()
        for shard in self.shards:
            found = getattr(shard, kind)
            if found is None:
                return None
            counts.update(found)
        return dict(counts.most_common())

    def shards_of(self, split: str = DEFAULT_SPLIT) -> tuple[ShardRecord, ...]:
        """The shards of one split.

        Raises:
            DinogenError: there are none.
        """
        shards = tuple(shard for shard in self.shards if shard.split == split)
        if not shards:
            known = ", ".join(f"{name} ({count})" for name, count in self.splits.items()) or "none"
            raise DinogenError(f"the data has no samples of split '{split}'; its splits: {known}")
        return shards

    def to_dict(self) -> dict:
        return {
            "schema": SCHEMA_VERSION,
            "stages": self.specs.to_dict(),
            "fingerprint": self.specs.fingerprint,
            "samples": self.samples,
            "bytes": sum(shard.bytes for shard in self.shards),
            "splits": self.splits,
            "shards": [shard.to_dict() for shard in self.shards],
            # Not for 256: manifests from before there were other sizes keep their bytes.
            **({"crop_size": self.crop_size} if self.crop_size != CROP_SIZE else {}),
            **({"embedder": asdict(self.embedder)} if self.embedder else {}),
        }

    def write(self, folder: Path) -> None:
        """Write `manifest.json` into `folder`, whole or not at all."""
        write_json(folder / MANIFEST_NAME, self.to_dict())


def parse_manifest(payload: bytes, where: object) -> Manifest:
    """A manifest from the bytes of its file; `where` names it in errors.

    Raises:
        DinogenError: not a manifest, of another schema version, or in contradiction with itself.
    """
    try:
        values = json.loads(payload)
        version = values["schema"]
    except (ValueError, KeyError, TypeError) as error:
        raise DinogenError(f"{where}: not a manifest; pack the crops again") from error
    if version != SCHEMA_VERSION:
        spec = values.get("spec")
        teacher = spec.get("teacher") if isinstance(spec, dict) else "TEACHER"
        raise DinogenError(
            f"{where}: schema version {version}, but this dinogen reads {SCHEMA_VERSION}; pack the crops again: "
            f"dinogen pack --teacher {teacher} --input CROPS --output NEW_FOLDER"
        )
    try:
        specs = StagedSpec.from_dict(values["stages"])
        shards = tuple(ShardRecord(**shard) for shard in values["shards"])
        embedder = Embedder(**values["embedder"]) if "embedder" in values else None
        manifest = Manifest(specs, shards, values.get("crop_size", CROP_SIZE), embedder)
        for kind in ("licences", "consents"):
            manifest.terms(kind)
        manifest.captioned()
        promised = values["fingerprint"], values["samples"], values["splits"]
        found = specs.fingerprint, manifest.samples, manifest.splits
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError, DinogenError) as error:
        known = isinstance(error, ValueError | DinogenError)
        reason = first_line(error) if known else "a key is missing, unknown or of the wrong kind"
        raise DinogenError(f"{where}: damaged ({reason}); pack the crops again") from error
    if promised != found:
        raise DinogenError(f"{where}: the totals or the fingerprint contradict the rest; pack the crops again")
    if manifest.crop_size not in CROP_SIZES:
        raise DinogenError(
            f"{where}: crop_size {manifest.crop_size!r} is not one of {CROP_SIZES}; pack the crops again"
        )
    _check_names(manifest.shards, where)
    return manifest


def _check_names(shards: Sequence[ShardRecord], where: object) -> None:
    names = [shard.name for shard in shards]
    for shard in shards:
        name = shard.name
        # A name is joined to the folder's path: it must be a plain file name, never a path, a URL or a `pipe:`.
        if not isinstance(name, str) or Path(name).name != name or ":" in name or not name.endswith(".tar"):
            raise DinogenError(f"{where}: shard name {name!r} is not a plain file name; do not trust this data")
        if not SHA256.fullmatch(str(shard.sha256)):  # it names the copy in a cache
            raise DinogenError(f"{where}: the sha256 of {name} is not one; do not trust this data")
    if len(set(names)) != len(names):
        raise DinogenError(f"{where}: lists a shard twice; pack the crops again")


def read_manifest(data: Path) -> Manifest:
    """Read the manifest of a folder of shards.

    Raises:
        DinogenError: no manifest there, or a damaged one.
    """
    path = Path(data) / MANIFEST_NAME
    try:
        payload = path.read_bytes()
    except OSError as error:
        if not Path(data).is_dir():
            raise DinogenError(no_folder(data, "--data takes shards, as written by dinogen pack")) from error
        reason = "packing did not finish; run dinogen pack again" if any(Path(data).glob("*.tar")) else "no shards here"
        raise DinogenError(f"{data}: {steps_before(data, 'shards') or f'no {MANIFEST_NAME} ({reason})'}") from error
    return parse_manifest(payload, path)
