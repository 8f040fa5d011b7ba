"""A dataset card: what a data set holds, under which terms, and how somebody gets out of it."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from dinogen.data.manifest import Manifest, read_manifest
from dinogen.data.schema import SampleRecord
from dinogen.data.store import open_shard
from dinogen.progress import progress

UNKNOWN = "not stated"


def dataset_card(data: Path, contact: str | None = None) -> str:
    """The card as Markdown, from the manifest and every sample's record.

    Args:
        data: folder of shards.
        contact: whom to ask for removal.
    """
    manifest = read_manifest(data)
    sources: set[str] = set()
    licences, consents, origins, captioned = Counter(), Counter(), Counter(), 0
    for listed in progress(manifest.shards, desc="card", unit="shard"):
        shard = open_shard(data / listed.name, listed)
        for row in range(len(shard)):
            record = SampleRecord.from_bytes(shard.read(row, "record"))
            sources.add(record.source_sha256)
            licences[UNKNOWN if record.licence is None else str(record.licence)] += 1
            consents[UNKNOWN if record.consent is None else str(record.consent)] += 1
            origins[origin(record.address)] += 1
            captioned += record.caption is not None
        shard.close()
    return (
        "\n\n".join(
            [
                f"# Dataset card: {data.resolve().name}",
                "Aligned 256×256 crops of faces, each with what a frozen DINOv2 sees in it.",
                _table("What", "Value", _facts(manifest, len(sources), captioned)),
                "## Where the sources came from",
                _table("Origin", "Crops", dict(origins.most_common())),
                "## Licences of the sources",
                _table("Licence", "Crops", dict(licences.most_common())),
                "## Consent of the people",
                _table("Consent", "Crops", dict(consents.most_common())),
                "## Removal",
                _removal(contact),
            ]
        )
        + "\n"
    )


def origin(address: str | None) -> str:
    """Whose pictures they are, as far as an address tells: its server, bucket or data set."""
    if address is None:
        return UNKNOWN
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}" + (parts.path if parts.scheme == "datasets" else "")


def _facts(manifest: Manifest, sources: int, captioned: int) -> dict[str, object]:
    return {
        "Crops": manifest.samples,
        **{f"Crops in split {split}": count for split, count in manifest.splits.items()},
        "Source pictures": sources,
        "Crops with a caption": captioned,
        "Shards": len(manifest.shards),
        "Bytes": sum(shard.bytes for shard in manifest.shards),
        "Teacher": manifest.spec.describe(),
        "Fingerprint of the pyramids": manifest.spec.fingerprint,
    }


def _table(left: str, right: str, rows: Mapping[str, object]) -> str:
    cell = lambda value: " ".join(str(value).split()).replace("|", "\\|")  # noqa: E731
    lines = [f"| {left} | {right} |", "| --- | --- |"]
    return "\n".join(lines + [f"| {cell(name)} | {cell(value)} |" for name, value in rows.items()])


def _removal(contact: str | None) -> str:
    asked = f"Ask {contact}" if contact else "Ask whoever gave you this data"
    return (
        f"{asked}, naming the picture's file, its sha256 or its address. `dinogen remove --data SHARDS --source NAME` "
        "takes all crops of a picture out of the shards. Crop folders, copies of the shards and models that were trained "
        "before are not changed by it."
    )
