"""A dataset card: what a data set holds, under which terms, and how somebody gets out of it."""

import re
import shlex
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from huggingface_hub import DatasetCard, DatasetCardData

from dinogen.data.manifest import Manifest, read_manifest
from dinogen.data.schema import NOT_STATED, SampleRecord, stated
from dinogen.data.store import open_shard
from dinogen.errors import DinogenError
from dinogen.files import write_bytes
from dinogen.markdown import cell, has_part, with_part
from dinogen.progress import progress

CARD_NAME = "README.md"  # what hubs show of a data set
OLD_NAME = "CARD.md"
DEFAULTS = {
    "license": "unknown",
    "task_categories": ["unconditional-image-generation"],
    "tags": ["faces", "dinov2", "webdataset"],
}
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
    old = read_card(path) if path.exists() else None
    manifest = read_manifest(data)
    counts = count(data, manifest)
    metadata: dict[str, Any] = DEFAULTS | {"pretty_name": data.resolve().name} | (old.data.to_dict() if old else {})
    metadata |= {"size_categories": [size_category(manifest.samples)]} | ({"contact": contact} if contact else {})
    if set(counts.licences) != {NOT_STATED}:
        metadata["license"] = sorted({licence_name(licence) for licence in counts.licences})
    card = DatasetCard.from_template(
        DatasetCardData(**metadata),
        template_path=str(Path(__file__).parent / "templates" / "card.md"),
        **{"contact": None} | metadata,
        manifest=manifest,
        counts=counts,
        cell=cell,
        command=shlex.join(["dinogen", "remove", "--data", data.resolve().name, "--source", "photo.jpg"]),
        begin=BEGIN,
        end=END,
    )
    if old:
        counted, _, _ = card.text.partition(BEGIN)[2].partition(END)
        card.text = with_part(old.text, BEGIN, END, counted)
    write_bytes(path, f"{str(card).rstrip()}\n".encode())


def renew_cards(data: Path) -> None:
    """Bring the card in a folder of shards up to date, if there is one; a line says what could not be."""
    for path in (data / CARD_NAME, data / OLD_NAME):
        if path.is_file():
            try:
                write_card(data, path)
            except DinogenError as error:
                print(f"{error}; it was not changed: look whether it still counts what is gone", file=sys.stderr)


def read_card(path: Path) -> DatasetCard:
    """A card that `dinogen card` wrote.

    Raises:
        DinogenError: it did not, or the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if has_part(text, BEGIN, END):
            return DatasetCard(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DinogenError(f"{path}: cannot be read as a card ({error})") from error
    raise DinogenError(f"{path}: not a card of dinogen card")


def licence_name(licence: str) -> str:
    """The hub's name of a licence; `other` for one that it has no name for."""
    if licence == NOT_STATED:
        return "unknown"
    name = "-".join(licence.lower().split())
    name = "cc0-1.0" if name == "cc0" else name
    return name if KNOWN_LICENCES.fullmatch(name) else "other"


def size_category(samples: int) -> str:
    """The hub's name of a number of samples: `n<1K`, `1K<n<10K` and so on."""
    names = ("1K", "10K", "100K", "1M", "10M", "100M", "1B")
    place = sum(samples >= 1000 * 10**power for power in range(len(names) - 1))
    return "<n<".join(names[place - 1 : place + 1]) if place else "n<1K"


def count(data: Path, manifest: Manifest) -> Counts:
    """Read every record."""
    counts = Counts()
    for listed in progress(manifest.shards, desc="card", unit="shard"):
        shard = open_shard(data / listed.name, listed)
        for row in range(len(shard)):
            record = SampleRecord.from_bytes(shard.read(row, "record"))
            counts.sources.add(record.source_sha256)
            counts.licences[stated(record.licence)] += 1
            counts.consents[stated(record.consent)] += 1
            counts.origins[origin(record.address)] += 1
            counts.captioned += bool(record.captions)
        shard.close()
    return counts


def origin(address: str | None) -> str:
    """Whose pictures they are, as far as an address tells: its server, bucket or data set."""
    if address is None:
        return NOT_STATED
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}" + (parts.path if parts.scheme == "datasets" else "")
