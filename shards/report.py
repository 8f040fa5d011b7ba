"""What became of every photo: `report.csv`, a row a source, and `report.html`, one page to look at."""

import csv
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from PIL import Image

from dinogen.files import atomic_file, write_bytes
from dinogen.page import render
from dinogen.upright import upright_rgb
from shards.decode import Rejected, decode
from shards.options import CropOptions
from shards.photo import ACCEPTED
from shards.sources import FileSource, Source
from shards.table import to_cell

Record = dict[str, Any]

COLUMNS = ("source", "cause", "detail", "sha256", "keys", "split")
MEASURES = ("score", "face_pixels", "yaw", "pitch", "sharpness", "padding")
SHOWN = 32  # pictures in a contact sheet, spread evenly over the sources
THUMB = 128  # pixels along the longer side of a picture
PART = 1000  # rows that open together
LISTED = 20_000  # rows for one cause: browsers are slow with more, and report.csv has all
UNSHOWABLE = {"decoder-crashed", "damaged", "needs-package", "not-an-image", "empty-file", "too-many-pixels",
              "too-many-bytes", "unreadable", "unreachable", "refused-address", "damaged-archive"}  # fmt: skip

MEANING = {
    ACCEPTED: "gave at least one crop",
    "bad-sidecar": "the .json beside it, which may state licence and consent, cannot be read",
    "blurred": "the face is less sharp than --min-sharpness",
    "damaged": "begins like a picture but cannot be decoded to its end",
    "damaged-archive": "the .zip or .tar is cut off or overwritten here",
    "decoder-crashed": "decoding it killed the process, twice",
    "duplicate": "the same bytes as another photo",
    "empty-file": "holds no bytes",
    "extreme-pose": "the head is turned further than --max-pose",
    "face-too-small": "the largest face is smaller than --min-face",
    "needs-package": "a HEIC or AVIF, for which a package is missing",
    "near-duplicate": "looks like another photo, resized or recompressed perhaps",
    "no-face": "the detector is sure of no face, see --min-score",
    "not-an-image": "not a JPEG, PNG, WebP, HEIC or AVIF, whatever its name says",
    "refused-address": "an address of a kind that is never opened",
    "several-faces": "more than one face, and --faces is skip",
    "too-many-bytes": "the file is larger than any photo",
    "too-many-pixels": "more pixels than --max-megapixels",
    "too-much-padding": "more of the crop than --max-padding lies outside the photo",
    "too-small": "the whole picture is smaller than --min-face",
    "unreachable": "the address could not be fetched; it is tried again by the next run",
    "unreadable": "the file could not be opened; it is tried again by the next run",
}


def write_report(folder: Path, sources: list[Source], records: list[Record], options: CropOptions) -> None:
    """Write `report.csv` and `report.html` into a crop folder. `records` are the journal's, one a source."""
    write_csv(folder / "report.csv", records)
    write_bytes(folder / "report.html", page(folder, sources, records, options).encode("utf-8", "backslashreplace"))


def count_causes(records: Iterable[Record]) -> dict[str, int]:
    """How many sources met each fate."""
    return dict(Counter(record["cause"] for record in records))


def write_csv(path: Path, records: list[Record]) -> None:
    with atomic_file(path) as temporary:
        # names that are no Unicode, which file systems allow, are written with escapes
        with temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS + MEASURES)
            for record in records:
                row = {**record, **record["measures"], "keys": " ".join(record["keys"])}
                writer.writerow([to_cell(row.get(column, "")) for column in COLUMNS + MEASURES])


def page(folder: Path, sources: list[Source], records: list[Record], options: CropOptions) -> str:
    counts = count_causes(records)
    order = sorted(counts, key=lambda cause: (cause != ACCEPTED, -counts[cause], cause))
    settings = {key: value for key, value in vars(options).items() if value is not None}
    return render(
        "crops.html",
        f"{len(records)} photos, {sum(len(record['keys']) for record in records)} crops",
        options=" ".join(f"--{key.replace('_', '-')} {value}" for key, value in settings.items()),
        counts=[[{"text": cause, "note": MEANING[cause]}, counts[cause]] for cause in order],
        histograms=[
            histogram(name, known)
            for name in MEASURES
            if (known := [record["measures"][name] for record in records if name in record["measures"]])
        ],
        fates=[fate(cause, folder, sources, records, options) for cause in order],
    )


def histogram(name: str, values: list[float], bins: int = 24) -> dict[str, Any]:
    """How often each value occurs, as bars of at most 96 units."""
    heights, edges = np.histogram(np.array(values, dtype=np.float64), bins=bins)
    bars = [
        (12 * i, round(96 * float(h) / heights.max(), 1), f"{edges[i]:.3g} to {edges[i + 1]:.3g}: {h}")
        for i, h in enumerate(heights)
    ]
    return {"name": name, "count": len(values), "bars": bars, "low": f"{edges[0]:.4g}", "high": f"{edges[-1]:.4g}"}


def fate(
    cause: str, folder: Path, sources: list[Source], records: list[Record], options: CropOptions
) -> dict[str, Any]:
    """All sources with one cause: pictures of some, spread evenly, and a row for each."""
    chosen = [(source, record) for source, record in zip(sources, records, strict=True) if record["cause"] == cause]
    shown = sorted({round(i) for i in np.linspace(0, len(chosen) - 1, SHOWN)})
    pictures = [] if cause in UNSHOWABLE else [tile(*pair, folder, options) for pair in map(chosen.__getitem__, shown)]
    rows = [row(source, record, folder, options) for source, record in chosen[:LISTED]]
    parts = [
        {"first": first + 1, "last": min(first + PART, len(rows)), "rows": rows[first : first + PART]}
        for first in range(0, len(rows), PART)
    ]
    return {
        "cause": cause,
        "count": len(chosen),
        "tiles": [picture for picture in pictures if picture["image"]],
        "parts": parts,
        "left_out": len(chosen) - len(rows),
    }


def tile(source: Source, record: Record, folder: Path, options: CropOptions) -> dict[str, Any]:
    """A small picture, of the crop or else of the photo, that opens the large one; None for one that is gone since."""
    found = row(source, record, folder, options)
    try:
        if record["keys"]:
            image = upright_rgb(Image.open(folder / f"{record['keys'][0]}.{options.format}"))
        else:
            image = decode(source.read(), int(options.max_megapixels * 1e6))
        image.thumbnail((THUMB, THUMB))
    except (Rejected, OSError):
        image = None
    link = found["crops"][0][1] if found["crops"] else found["link"]
    return {"image": image, "caption": ": ".join(filter(None, [record["source"], record["detail"]])), "link": link}


def row(source: Source, record: Record, folder: Path, options: CropOptions) -> dict[str, Any]:
    crops = [(key, f"{key}.{options.format}") for key in record["keys"]]
    return {"source": record["source"], "detail": record["detail"], "crops": crops, "link": link_to(source, folder)}


def link_to(source: Source, folder: Path) -> str:
    """What opens a photo from a page in `folder`; empty for one inside an archive."""
    if isinstance(source, FileSource):
        return quote(os.fsencode(os.path.relpath(source.path, folder)))  # a colon too: no name becomes a scheme
    address = source.address or ""
    return address if address.startswith(("https://", "http://")) else ""
