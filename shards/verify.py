"""Is everything there, whole and sensible: every byte of a data set is read once."""

from collections.abc import Iterator
from pathlib import Path

import torch

from dinogen.data.folder import check_file
from dinogen.data.image import decode_image
from dinogen.data.manifest import Manifest, ShardRecord, read_manifest
from dinogen.data.schema import PyramidLayout, SampleRecord
from dinogen.data.shard import Shard
from dinogen.data.store import open_shard
from dinogen.errors import DinogenError
from dinogen.progress import progress


def verify_folder(data: Path) -> list[str]:
    """Check the hash and structure of every shard, and every sample's record, crop and pyramid.

    Returns:
        One line for everything that is wrong, naming shard and sample; an empty list if nothing is.

    Raises:
        DinogenError: there is no manifest to check against.
    """
    manifest = read_manifest(data)
    problems = [f"{path}: not in the manifest" for path in unlisted(data, manifest)]
    layout = PyramidLayout(manifest.spec)
    home: dict[str, str] = {}  # key → the shard that it was seen in first
    for record in progress(manifest.shards, desc="verify", unit="shard"):
        try:
            check_file(data / record.name, record, "sha256")
            shard = open_shard(data / record.name, record)
        except DinogenError as error:
            problems.append(str(error))
            continue
        problems += [f"{shard.path}: {problem}" for problem in _problems_in(shard, record, layout)]
        for key in shard.keys:
            if home.setdefault(key, record.name) != record.name:
                problems.append(f"{shard.path}: sample {key} is in {home[key]} too")
        shard.close()
    return problems


def unlisted(data: Path, manifest: Manifest) -> list[Path]:
    """Tars in the folder that the manifest does not list."""
    return sorted(set(data.glob("*.tar")) - {data / shard.name for shard in manifest.shards})


def _problems_in(shard: Shard, listed: ShardRecord, layout: PyramidLayout) -> Iterator[str]:
    for row, key in enumerate(shard.keys):
        try:
            record = SampleRecord.from_bytes(shard.read(row, "record"))
            if record.split != listed.split:
                yield f"sample {key} is of split '{record.split}' in a shard of '{listed.split}'"
            decode_image(shard.read(row, "image"))
            rows = torch.frombuffer(bytearray(layout.normalise(shard.read(row, "pyramid"))), dtype=torch.uint8)[None]
            for name, tensor in layout.split(rows).items():
                if not tensor.isfinite().all():
                    yield f"sample {key} has infinite or undefined numbers in '{name}'"
        except DinogenError as error:
            yield f"sample {key} {error}"
