"""The pages of `dinogen evaluate` and `dinogen compare`: what their templates are filled with."""

from collections.abc import Mapping, Sequence
from typing import Any

from dinogen.evaluate.curves import Curve, charts, colour_of, guidance_charts
from dinogen.evaluate.pictures import PSI_SWEEP, Pictures, side_by_side
from dinogen.evaluate.report import (
    ATTRIBUTE_FIGURES,
    Row,
    attributes_of,
    comparable,
    figure_rows,
    footnote,
    name_of,
    shown,
    signal_rows,
    words_rows,
)
from dinogen.page import render

Report = Mapping[str, Any]


def report_page(report: Report, pictures: Pictures, curves: Mapping[str, Curve]) -> str:
    """One generator's verdict, figures, pictures and curves.

    Args:
        report: as of `model.examine`.
        pictures: of the same generator.
        curves: of its run, see `curves.read_curves`.
    """
    return render(
        "report.html",
        name_of(report),
        report=report,
        figures=[cells(row) for row in figure_rows([report])],
        footnote=footnote(report),
        words=[cells(row) for row in words_rows([report])],
        asked=rows_by_prompt(report),
        guidance=guidance_charts((report.get("words") or {}).get("by_guidance", [])),
        signal=[cells(row) for row in signal_rows([report])],
        maps=rows_by_map(report),
        pictures=pictures,
        sweep=PSI_SWEEP,
        charts=charts([curves]),
    )


def comparison_page(
    reports: Sequence[Report], pictures: Sequence[Pictures], curves: Sequence[Mapping[str, Curve]]
) -> str:
    """Several generators: verdicts, figures and samples side by side, curves together, then the other pictures."""
    models = [
        {"number": f"[{number}]", "name": name_of(report), "report": report, "pictures": drawn}
        for number, (report, drawn) in enumerate(zip(reports, pictures), start=1)
    ]
    return render(
        "compare.html",
        "Comparison",
        models=models,
        footnote=footnote(reports[0]),
        comparable=comparable(reports),
        figures=[cells(row) for row in figure_rows(reports)],
        words=[cells(row) for row in words_rows(reports)],
        signal=[cells(row) for row in signal_rows(reports)],
        beside=side_by_side(pictures),
        sweep=PSI_SWEEP,
        charts=charts(curves),
        legend=[(f"{model['number']} {model['name']}", colour_of(index)) for index, model in enumerate(models)],
    )


def cells(row: Row) -> list[Any]:
    """A row of a table: name and meaning, each value, the best in bold, and what real images get."""
    values = [{"text": value, "best": place in row.best} for place, value in enumerate(row.values)]
    if len(values) == 1:
        values[0]["note"] = row.interval
    return [{"text": row.name, "note": row.what}, *values, row.real]


def rows_by_map(report: Report) -> list[list[str]]:
    """Displacement and spread, map by map; none where no teacher was at hand."""
    if (signal := report.get("training_signal")) is None:
        return []
    real = signal["real_against_real"]
    return [
        [name, shown(value), shown(real["displacement"][name]), shown(signal["spread"][name])]
        for name, value in signal["displacement"].items()
    ]


def rows_by_prompt(report: Report) -> list[list[str]]:
    """What prompts ask for, and what their samples and real images get in each figure; none without prompts."""
    words = report.get("words") or {}
    rows = []
    for name in attributes_of(words):
        for prompt in words[f"obeys_{name}"]:
            both = [(words[f"{k}_{name}"], words["real_against_real"][f"{k}_{name}"]) for k in ATTRIBUTE_FIGURES]
            rows.append([prompt, *(shown(value[prompt]) for pair in both for value in pair)])
    return rows
