"""Is everything there, whole and sensible: every byte of a data set is read once."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from dinogen.data.folder import LocalFolder, RemoteFolder, open_folder
from dinogen.data.image import decode_image
from dinogen.data.layout import EmbeddingLayout, Layout, PyramidLayout
from dinogen.data.manifest import Manifest, ShardRecord
from dinogen.data.schema import SampleRecord
from dinogen.data.shard import Shard
from dinogen.data.store import open_shard
from dinogen.errors import DinogenError
from dinogen.files import is_hidden
from dinogen.progress import progress
from shards.plan import RecordCounts


@dataclass
class Findings:
    """What reading a whole data set showed.

    Args:
        problems: one line for everything that is wrong, naming shard and sample.
        captioned: number of samples with a caption.
    """

    problems: list[str] = field(default_factory=list)
    captioned: int = 0


def verify_folder(data: Path | str) -> Findings:
    """Check the hash and structure of every shard, and every sample's record, crop and pyramid.

    Args:
        data: folder of shards, or its address, from which every shard is copied anew, whatever the cache holds.

    Raises:
        DinogenError: there is no manifest to check against.
    """
    with TemporaryDirectory(prefix="dinogen-verify-") as copies:
        folder = open_folder(data)
        if isinstance(folder, RemoteFolder):
            folder = RemoteFolder(folder.address, cache=Path(copies), cache_bytes=0)
        return _look_through(folder)


def _look_through(folder: LocalFolder | RemoteFolder) -> Findings:
    manifest = folder.manifest()
    findings = Findings([f"{path}: not in the manifest" for path in unlisted(folder, manifest)])
    problems = findings.problems
    layouts: dict[str, Layout] = {"pyramid": PyramidLayout(manifest.specs)}
    if manifest.embedder:
        layouts["embedding"] = EmbeddingLayout(manifest.embedder.width)
    home: dict[str, str] = {}  # key → the shard that it was seen in first
    for record in progress(manifest.shards, desc="verify", unit="shard"):
        try:
            shard = open_shard(folder.fetch(record, "sha256"), record)
        except DinogenError as error:
            problems.append(str(error))
            continue
        where = f"{folder}/{record.name}"
        problems += [f"{where}: {problem}" for problem in _problems_in(shard, record, layouts, manifest.crop_size)]
        counted = count_records(shard)
        findings.captioned += counted.captioned
        if record.captioned not in (None, counted.captioned):
            found = counted.captioned
            problems.append(f"{where}: {found} samples have captions, and the manifest says {record.captioned}")
        problems += [
            f"{where}: the manifest counts other {kind} than the records have"
            for kind in ("licences", "consents")
            if getattr(record, kind) not in (None, getattr(counted, kind))
        ]
        for key in shard.keys:
            if home.setdefault(key, record.name) != record.name:
                problems.append(f"{where}: sample {key} is in {home[key]} too")
        shard.close()
    return findings


def count_records(shard: Shard) -> RecordCounts:
    """What the records say that can be read."""
    counted = RecordCounts()
    for row in range(len(shard)):
        with suppress(DinogenError):
            counted.add(SampleRecord.from_bytes(shard.read(row, "record")))
    return counted


def unlisted(folder: LocalFolder | RemoteFolder, manifest: Manifest) -> list[Path]:
    """Tars that the manifest does not list, in a folder here; the web has no lists of files."""
    if isinstance(folder, RemoteFolder):
        return []
    found = {path for path in folder.path.glob("*.tar") if not is_hidden(path.name)}
    return sorted(found - {folder.path / shard.name for shard in manifest.shards})


def _problems_in(shard: Shard, listed: ShardRecord, layouts: Mapping[str, Layout], crop_size: int) -> Iterator[str]:
    for row, key in enumerate(shard.keys):
        try:
            record = SampleRecord.from_bytes(shard.read(row, "record"))
            if record.split != listed.split:
                yield f"sample {key} is of split '{record.split}' in a shard of '{listed.split}'"
            decode_image(shard.read(row, "image"), crop_size=crop_size)
            if "embedding" not in layouts and shard.size(row, "embedding"):
                yield f"sample {key} has an embedding, and the manifest names no CLIP"
            for part, layout in layouts.items():
                payload = bytearray(layout.normalise(shard.read(row, part)))
                for name, tensor in layout.split(torch.frombuffer(payload, dtype=torch.uint8)[None]).items():
                    if not tensor.isfinite().all():
                        yield f"sample {key} has infinite or undefined numbers in '{name}'"
                    elif part == "embedding" and abs(float(tensor.float().norm()) - 1) > 0.01:
                        yield f"sample {key} has an embedding that is not of length one"
        except DinogenError as error:
            yield f"sample {key} {error}"
