"""What became of every photo: `report.csv`, a row a source, and `report.html`, one page to look at."""

import base64
import csv
import io
from collections import Counter
from collections.abc import Callable, Iterable
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dinogen.files import atomic_file, write_bytes
from shards.decode import Rejected, decode
from shards.options import CropOptions
from shards.photo import ACCEPTED
from shards.sources import Source

Record = dict[str, Any]

COLUMNS = ("source", "cause", "detail", "sha256", "keys", "split")
MEASURES = ("score", "face_pixels", "yaw", "pitch", "sharpness", "padding")
SHOWN = 32  # pictures in a contact sheet, spread evenly over the sources
THUMB = 128
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

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>dinogen crop: {title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1120px; padding: 0 1rem; color: #222 }}
h1 {{ font-size: 1.5rem }} h2 {{ font-size: 1.15rem; margin-top: 2.5rem }}
table {{ border-collapse: collapse }} td, th {{ padding: .2rem .8rem .2rem 0; text-align: left; vertical-align: top }}
td.n {{ text-align: right; font-variant-numeric: tabular-nums }} .bar {{ background: #4a7; height: .7rem }}
.grid {{ display: flex; flex-wrap: wrap; gap: 6px }} figure {{ margin: 0; width: 128px }}
figure img {{ width: 128px; height: 128px; object-fit: contain; background: #eee; display: block }}
strong {{ font-weight: 600 }} small {{ color: #555 }}
figcaption {{ font-size: 11px; line-height: 1.25; overflow-wrap: anywhere; max-height: 4em; overflow: hidden }}
.plots {{ display: flex; flex-wrap: wrap; gap: 24px }} svg text {{ font-size: 11px; fill: #555 }}
</style>
<h1>{title}</h1><p>{options}</p>
<table><tr><th>what became of them</th><th>photos</th><th></th><th>meaning</th></tr>{counts}</table>
<h2>Measures of the largest face</h2><div class="plots">{plots}</div>
{sheets}
</html>
"""


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
                writer.writerow([row.get(column, "") for column in COLUMNS + MEASURES])


def page(folder: Path, sources: list[Source], records: list[Record], options: CropOptions) -> str:
    counts = count_causes(records)
    order = sorted(counts, key=lambda cause: (cause != ACCEPTED, -counts[cause], cause))
    plots = [histogram(name, [record["measures"].get(name) for record in records]) for name in MEASURES]
    sheets = [sheet(cause, folder, sources, records, options) for cause in order]
    return PAGE.format(
        title=f"{sum(counts.values())} photos, {sum(len(record['keys']) for record in records)} crops",
        options=escape(
            " ".join(f"--{key.replace('_', '-')} {value}" for key, value in vars(options).items() if value is not None)
        ),
        counts="".join(count_row(cause, counts[cause], max(counts.values())) for cause in order),
        plots="".join(plots),
        sheets="".join(sheets),
    )


def count_row(cause: str, count: int, most: int) -> str:
    bar = f'<div class="bar" style="margin-top:.35rem;width:{max(2, round(240 * count / most))}px"></div>'
    return f'<tr><td>{cause}</td><td class="n">{count}</td><td>{bar}</td><td>{escape(MEANING[cause])}</td></tr>'


def histogram(name: str, values: list[float | None], bins: int = 24) -> str:
    """An SVG of how often each value occurs."""
    known = np.array([value for value in values if value is not None], dtype=np.float64)
    if not known.size:
        return ""
    heights, edges = np.histogram(known, bins=bins)
    bars = "".join(
        f'<rect x="{12 * i}" y="{100 - 96 * h / heights.max():.1f}" width="11" height="{96 * h / heights.max():.1f}"'
        f' fill="#47a"><title>{edges[i]:.3g} to {edges[i + 1]:.3g}: {h}</title></rect>'
        for i, h in enumerate(heights)
    )
    axis = f'<text x="0" y="115">{edges[0]:.4g}</text><text x="288" y="115" text-anchor="end">{edges[-1]:.4g}</text>'
    label = f'<text x="144" y="115" text-anchor="middle">{name} ({known.size})</text>'
    return f'<svg width="290" height="120">{bars}{axis}{label}</svg>'


def sheet(cause: str, folder: Path, sources: list[Source], records: list[Record], options: CropOptions) -> str:
    """A heading and a contact sheet: crops of the accepted, reduced photos of the rejected, names of the rest."""
    chosen = [(source, record) for source, record in zip(sources, records, strict=True) if record["cause"] == cause]
    spread = sorted({round(i) for i in np.linspace(0, len(chosen) - 1, SHOWN)})
    shown = [chosen[i] for i in spread]
    part = f" <small>{len(shown)} of {len(chosen)} shown</small>" if len(shown) < len(chosen) else ""
    if cause in UNSHOWABLE:
        rows = "".join(f"<li><strong>{escape(r['source'])}</strong> {escape(r['detail'])}</li>" for _, r in shown)
        return f"<h2>{cause}</h2>{part}<ul>{rows}</ul>"
    load = crop_of(folder, options) if cause == ACCEPTED else lambda source, record: photo_of(source, options)
    figures = "".join(figure(load, source, record) for source, record in shown)
    return f'<h2>{cause}</h2>{part}<div class="grid">{figures}</div>'


def crop_of(folder: Path, options: CropOptions) -> Callable[[Source, Record], Image.Image]:
    def load(source: Source, record: Record) -> Image.Image:
        return Image.open(folder / f"{record['keys'][0]}.{options.format}").convert("RGB")

    return load


def photo_of(source: Source, options: CropOptions) -> Image.Image:
    return decode(source.read(), int(options.max_megapixels * 1e6))


def figure(load: Callable[[Source, Record], Image.Image], source: Source, record: Record) -> str:
    """One picture with its name and cause; without the picture if it is gone since."""
    caption = f"<strong>{escape(record['source'])}</strong> {escape(record['detail'])}".rstrip()
    try:
        image = load(source, record)
    except (Rejected, OSError):
        return f"<figure><img alt=''><figcaption>{caption}</figcaption></figure>"
    image.thumbnail((THUMB, THUMB))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=80)
    data = base64.b64encode(stream.getvalue()).decode()
    return f'<figure><img alt="" src="data:image/jpeg;base64,{data}"><figcaption>{caption}</figcaption></figure>'
