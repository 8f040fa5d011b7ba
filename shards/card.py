"""A dataset card: what a data set holds, under which terms, and how somebody gets out of it."""

import re
import shlex
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from huggingface_hub import DatasetCard, DatasetCardData

from dinogen.data.manifest import Manifest, read_manifest
from dinogen.data.schema import SampleRecord
from dinogen.data.store import open_shard
from dinogen.errors import DinogenError
from dinogen.files import write_bytes
from dinogen.progress import progress

CARD_NAME = "README.md"  # what hubs show of a data set
OLD_NAME = "CARD.md"
UNKNOWN = "not stated"
# What lies between is counted anew each time; the rest of a card belongs to whoever wrote it.
BEGIN, END = "<!-- counted by dinogen card: begin -->", "<!-- counted by dinogen card: end -->"
KNOWN_LICENCES = re.compile(r"cc0-1\.0|cc-by(-nc)?(-sa|-nd)?-[234]\.[05]|mit|apache-2\.0|odbl|pddl")  # the hub's names


@dataclass
class Counts:
    """What all records of a data set say, counted."""

    sources: set[str] = field(default_factory=set)
    licences: Counter[str] = field(default_factory=Counter)
    consents: Counter[str] = field(default_factory=Counter)
    origins: Counter[str] = field(default_factory=Counter)
    captioned: int = 0


def write_card(data: Path, path: Path, contact: str | None = None) -> None:
    """Write the card of a folder of shards; of one that is there, only what is counted changes.

    Args:
        data: folder of shards.
        path: the card, Markdown with metadata as YAML.
        contact: whom to ask for removal; None keeps what the card says.

    Raises:
        DinogenError: `path` is a file that `dinogen card` did not write, or the shards cannot be read.
    """
    metadata, text = _read_card(path) if path.exists() else ({}, _new_text(data))
    manifest = read_manifest(data)
    counts = _count(data, manifest)
    metadata = _defaults(data) | metadata | _metadata(manifest, counts) | ({"contact": contact} if contact else {})
    counted = _counted(data, manifest, counts, metadata.get("contact"))
    text = text[: text.index(BEGIN)] + f"{BEGIN}\n\n{counted}\n\n" + text[text.index(END) :]
    card = DatasetCard(f"---\n{DatasetCardData(**metadata).to_yaml()}\n---\n\n{text.strip()}\n")
    write_bytes(path, str(card).encode())


def renew_cards(data: Path) -> None:
    """Bring the card in a folder of shards up to date, if there is one; a line says what could not be."""
    for path in (data / CARD_NAME, data / OLD_NAME):
        if path.is_file():
            try:
                write_card(data, path)
            except DinogenError as error:
                print(f"{error}; it was not changed: look whether it still counts what is gone", file=sys.stderr)


def _read_card(path: Path) -> tuple[dict[str, Any], str]:
    try:
        text = path.read_text(encoding="utf-8")
        if 0 <= text.find(BEGIN) < text.find(END):
            card = DatasetCard(text)
            return card.data.to_dict(), card.text
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DinogenError(f"{path}: cannot be read as a card ({error})") from error
    raise DinogenError(f"{path}: not a card of dinogen card")


def _new_text(data: Path) -> str:
    title = f"# Dataset card: {data.resolve().name}"
    return f"{title}\n\nAligned crops of faces, each with what a frozen DINOv2 sees in it.\n\n{BEGIN}\n{END}\n"


def _defaults(data: Path) -> dict[str, Any]:
    return {
        "pretty_name": data.resolve().name,
        "license": "unknown",
        "task_categories": ["unconditional-image-generation"],
        "tags": ["faces", "dinov2", "webdataset"],
    }


def _metadata(manifest: Manifest, counts: Counts) -> dict[str, Any]:
    licences = sorted({licence_name(licence) for licence in counts.licences})
    stated = {"license": licences if len(licences) > 1 else licences[0]} if licences != ["unknown"] else {}
    return {"size_categories": [size_category(manifest.samples)], **stated}


def licence_name(licence: str) -> str:
    """The hub's name of a licence; `other` for one that it has no name for."""
    if licence == UNKNOWN:
        return "unknown"
    name = "-".join(licence.lower().split())
    name = "cc0-1.0" if name == "cc0" else name
    return name if KNOWN_LICENCES.fullmatch(name) else "other"


def size_category(samples: int) -> str:
    """The hub's name of a number of samples: `n<1K`, `1K<n<10K` and so on."""
    names = ("1K", "10K", "100K", "1M", "10M", "100M", "1B")
    place = sum(samples >= 1000 * 10**power for power in range(len(names) - 1))
    return "<n<".join(names[place - 1 : place + 1]) if place else "n<1K"


def _count(data: Path, manifest: Manifest) -> Counts:
    counts = Counts()
    for listed in progress(manifest.shards, desc="card", unit="shard"):
        shard = open_shard(data / listed.name, listed)
        for row in range(len(shard)):
            record = SampleRecord.from_bytes(shard.read(row, "record"))
            counts.sources.add(record.source_sha256)
            counts.licences[UNKNOWN if record.licence is None else str(record.licence)] += 1
            counts.consents[UNKNOWN if record.consent is None else str(record.consent)] += 1
            counts.origins[origin(record.address)] += 1
            counts.captioned += record.caption is not None
        shard.close()
    return counts


def origin(address: str | None) -> str:
    """Whose pictures they are, as far as an address tells: its server, bucket or data set."""
    if address is None:
        return UNKNOWN
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}" + (parts.path if parts.scheme == "datasets" else "")


def _counted(data: Path, manifest: Manifest, counts: Counts, contact: str | None) -> str:
    facts = {
        "Crops": manifest.samples,
        **{f"Crops in split {split}": count for split, count in manifest.splits.items()},
        "Size of a crop in pixels": f"{manifest.crop_size}×{manifest.crop_size}",
        "Source pictures": len(counts.sources),
        "Crops with a caption": counts.captioned,
        "Shards": len(manifest.shards),
        "Bytes": sum(shard.bytes for shard in manifest.shards),
        "Teacher": manifest.spec.describe(),
        "Fingerprint of the pyramids": manifest.spec.fingerprint,
    }
    asked = f"Ask {contact}" if contact else "Ask whoever gave you this data"
    command = shlex.join(["dinogen", "remove", "--data", data.resolve().name, "--source", "photo.jpg"])
    return "\n\n".join(
        [
            _table("What", "Value", facts.items()),
            "## Where the sources came from",
            _table("Origin", "Crops", counts.origins.most_common()),
            "## Licences of the sources",
            _table("Licence", "Crops", counts.licences.most_common()),
            "## Consent of the people",
            _table("Consent", "Crops", counts.consents.most_common()),
            "## Removal",
            f"{asked}, naming the picture's file, its sha256 or its address. `{command}` takes all crops of a picture "
            "out of the shards, and out of this card. It does not change crop folders, copies of the shards and models "
            "that were trained before.",
        ]
    )


def _table(left: str, right: str, rows: Iterable[tuple[str, object]]) -> str:
    cell = lambda value: " ".join(str(value).split()).replace("|", "\\|")  # noqa: E731
    lines = [f"| {left} | {right} |", "| --- | --- |"]
    return "\n".join(lines + [f"| {cell(name)} | {cell(value)} |" for name, value in rows])
