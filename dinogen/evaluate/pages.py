"""The pages of `dinogen evaluate` and `dinogen compare`: what their templates are filled with."""

from collections.abc import Mapping, Sequence
from typing import Any

from dinogen.evaluate.curves import Curve, charts, colour_of
from dinogen.evaluate.pictures import PSI_SWEEP, Pictures
from dinogen.evaluate.report import Row, comparison_rows, footnote, name_of, rows, shown, signal_rows
from dinogen.page import render

Report = Mapping[str, Any]


def report_page(report: Report, pictures: Pictures, curves: Mapping[str, Curve]) -> str:
    """One generator's figures, pictures and curves.

    Args:
        report: as of `model.examine`.
        pictures: of the same generator.
        curves: of its run, see `curves.read_curves`.
    """
    return render(
        "report.html",
        name_of(report),
        report=report,
        figures=[cells(row) for row in rows(report)],
        footnote=footnote(report),
        signal=[cells(row) for row in signal_rows(report)],
        maps=rows_by_map(report),
        pictures=pictures,
        sweep=PSI_SWEEP,
        charts=charts([curves]),
    )


def comparison_page(
    reports: Sequence[Report], pictures: Sequence[Pictures], curves: Sequence[Mapping[str, Curve]]
) -> str:
    """Several generators' figures side by side, their curves together, and their pictures one after the other."""
    models = [
        {
            "number": f"[{number}]",
            "name": name_of(report),
            "footnote": footnote(report),
            "report": report,
            "pictures": drawn,
        }
        for number, (report, drawn) in enumerate(zip(reports, pictures), start=1)
    ]
    return render(
        "compare.html",
        "Comparison",
        models=models,
        figures=[[explained(name, what), *values] for name, *values, what in comparison_rows(reports)],
        sweep=PSI_SWEEP,
        charts=charts(curves),
        legend=[(f"{model['number']} {model['name']}", colour_of(index)) for index, model in enumerate(models)],
    )


def cells(row: Row) -> list[Any]:
    return [explained(row.name, row.what), row.ours, row.interval, row.real]


def explained(name: str, what: str) -> dict[str, str]:
    return {"text": name, "note": what}


def rows_by_map(report: Report) -> list[list[str]]:
    """Displacement and spread, map by map; none where no teacher was at hand."""
    if (signal := report.get("training_signal")) is None:
        return []
    real = signal["real_against_real"]
    return [
        [name, shown(value), shown(real["displacement"][name]), shown(signal["spread"][name])]
        for name, value in signal["displacement"].items()
    ]
