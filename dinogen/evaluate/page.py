"""Reports as single HTML files that need nothing beside them: no network, no picture files."""

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import Any

from PIL import Image

from dinogen.evaluate.pictures import PSI_SWEEP, Pictures
from dinogen.evaluate.report import Row, comparison_rows, footnote, name_of, rows, shown, signal_rows

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 1080px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin: 2em 0 .3em; } p { margin: .3em 0 .8em; }
table { border-collapse: collapse; } td, th { padding: .25em .8em; border-bottom: 1px solid #ddd; text-align: right; }
td, th { white-space: nowrap; } td.what { white-space: normal; color: #666; font-size: .9em; }
td:first-child, th:first-child, td.what { text-align: left; }
img { max-width: 100%; height: auto; }
svg { font: 11px system-ui, sans-serif; fill: #444; margin: .3em .4em 0 0; }
.note { color: #666; font-size: .9em; }
""".strip()

CAPTIONS = {
    "samples": ("Samples", "The first ones of the seed, none picked."),
    "reals": ("Real images", "At the same resolution, for comparison."),
    "nearest": (
        "Nearest real images",
        "Each sample and, to its right, the real image nearest to it in the detector's features; the closest pair "
        "first. Pairs that show the same picture are copies.",
    ),
    "walks": ("Walks between faces", "Straight lines from style to style. Every step should be a face, none a jump."),
    "sweep": (
        "Truncation",
        f"truncation_psi {', '.join(f'{psi:g}' for psi in PSI_SWEEP)} from the first row to the last: from the average "
        "face to all variety.",
    ),
    "mixing": (
        "Style mixing",
        "The first column styles the coarse half of the blocks, the first row the finer half. A row should share a "
        "face's shape, a column its colours.",
    ),
}


def report_page(report: dict[str, Any], pictures: Pictures, curves: str = "") -> str:
    """One generator's figures and pictures.

    Args:
        report: as of `model.examine`.
        pictures: of the same generator.
        curves: ready HTML, see `curves.charts`.
    """
    header = ["figure", "ours", "95% interval", "real", ""]
    parts = [table(header, [cells(row) for row in rows(report)]), note(footnote(report))]
    if signal := signal_rows(report):
        parts += [
            "<h2>On the training signal</h2>",
            note(f"Not independent: {report['training_signal']['note']}."),
            table(header, [cells(row) for row in signal]),
            table_by_map(report["training_signal"]),
        ]
    parts += [section(pictures, name) for name in CAPTIONS]
    if curves:
        parts += ["<h2>Curves of the run</h2>", curves]
    return page(name_of(report), [*parts, method(report)])


def cells(row: Row) -> list[str]:
    return [row.name, row.ours, row.interval, row.real, row.what]


def table_by_map(signal: dict[str, Any]) -> str:
    """Displacement and spread map by map, folded away."""
    real = signal["real_against_real"]
    lines = [
        [name, shown(value), shown(real["displacement"][name]), shown(signal["spread"][name]), ""]
        for name, value in signal["displacement"].items()
    ]
    inside = table(["map", "displacement", "real", "spread", ""], lines)
    return f"<details><summary>Map by map</summary>\n{inside}\n</details>"


def comparison_page(reports: Sequence[dict[str, Any]], pictures: Sequence[Pictures], curves: str = "") -> str:
    """Several generators' figures side by side, their curves together, and their pictures one after the other."""
    numbers = [f"[{number}]" for number in range(1, len(reports) + 1)]
    parts = [note(f"{number} {name_of(report)}. {footnote(report)}") for number, report in zip(numbers, reports)]
    parts.append(table(["figure", *numbers, "real", ""], comparison_rows(reports)))
    if curves:
        parts += ["<h2>Curves of the runs</h2>", curves]
    for number, report, drawn in zip(numbers, reports, pictures):
        parts.append(f"<h1>{escape(f'{number} {name_of(report)}')}</h1>")
        parts += [section(drawn, name) for name in CAPTIONS if name != "reals"]
    parts += [section(pictures[0], "reals"), method(reports[0])]
    return page("Comparison", parts)


def page(title: str, parts: Sequence[str]) -> str:
    """A whole document around ready HTML."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>\n'
        f"<style>\n{STYLE}\n</style></head>\n<body>\n<h1>{escape(title)}</h1>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table whose last column explains the row."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    lines = [
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in values) + f'<td class="what">{escape(what)}</td></tr>'
        for *values, what in rows
    ]
    return f"<table>\n<tr>{head}</tr>\n" + "\n".join(lines) + "\n</table>"


def section(pictures: Pictures, name: str) -> str:
    """One picture with its heading and what to look for."""
    title, what = CAPTIONS[name]
    return f"<h2>{title}</h2>\n<p>{escape(what)}</p>\n{embedded(getattr(pictures, name), title)}"


def embedded(image: Image.Image, description: str) -> str:
    """A picture inside the page, as a JPEG: enlarged small images are smooth, and PNGs of them weigh megabytes."""
    jpeg = io.BytesIO()
    image.save(jpeg, format="JPEG", quality=95, subsampling=0)
    data = base64.b64encode(jpeg.getvalue()).decode()
    return f'<img src="data:image/jpeg;base64,{data}" width="{image.width}" alt="{escape(description)}">'


def method(report: dict[str, Any]) -> str:
    """How it was measured."""
    measured = {"reference": report["reference"], "seed": report["seed"], "truncation_psi": report["truncation_psi"]}
    lines = [f"{key.replace('_', ' ')}: {value}" for key, value in (measured | report["method"]).items()]
    return "<h2>How it was measured</h2>\n" + "\n".join(note(line) for line in lines)


def note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'
