"""The figures in words and as a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FIGURES = {
    "face_rate": "share of images in which a face detector is sure of a face",
    "frechet_detector": "Fréchet distance in the detector's features; lower is better",
    "kernel_detector": "kernel distance (KID) in the same features; lower is better",
    "diversity_pixels": "mean distance between two images over that of real ones, in pixels; 1 is right",
    "diversity_features": "the same in the detector's features; 1 is right",
    "precision": "share of images that look like real ones",
    "recall": "share of real images that ours could look like",
    "density": "like precision, robust to outliers; real images score about 1",
    "coverage": "share of real images that have one of ours nearby",
    "nearest_real_median": "distance to the nearest real image; far below that of real ones: copies",
    "nearest_real_closest": "the smallest of these distances",
}
FURTHER_NETWORKS = {"inception": "Inception's", "clip": "CLIP's"}
WALK_FIGURES = {
    "walk_largest_step": "walks between faces: the largest step over the median step; above 3 it jumps",
    "walk_ends": "distance between a walk's ends over that between two samples; near 0: always the same face",
}
SIGNAL_FIGURES = {
    "frechet_dinov2": "Fréchet distance of the teacher's class tokens (FD-DINOv2)",
    "kernel_dinov2": "kernel distance of the same",
    "displacement": "how far the teacher's features have still to move, mean of all maps",
    "spread": "distance among generated features over that to real ones, mean of all maps; near 1 is right",
}
NOTHING = "–"


@dataclass(frozen=True)
class Row:
    """One figure as text: ours, its interval, what real images get, and what it means."""

    name: str
    ours: str
    interval: str
    real: str
    what: str


def shown(value: float | None) -> str:
    """A figure with four digits."""
    return NOTHING if value is None else f"{value:.4g}"


def shown_interval(interval: Sequence[float] | None) -> str:
    """An interval with three digits."""
    return "" if interval is None else f"{interval[0]:.3g} to {interval[1]:.3g}"


def explained(report: Mapping[str, Any]) -> dict[str, str]:
    """The figures in a report, in order, and what each means."""
    further = {}
    for network, whose in FURTHER_NETWORKS.items():
        further[f"frechet_{network}"] = f"Fréchet distance in {whose} features; lower is better"
        further[f"kernel_{network}"] = f"kernel distance (KID) in {whose} features; lower is better"
    everything = {}
    for name, what in (FIGURES | WALK_FIGURES).items():
        everything[name] = what
        if name == "kernel_detector":
            everything |= further
    return {name: what for name, what in everything.items() if name in report}


def rows(report: Mapping[str, Any]) -> list[Row]:
    """All independent figures."""
    real, intervals = report["real_against_real"], report["intervals"]
    return [
        Row(name, shown(report[name]), shown_interval(intervals.get(name)), shown(real.get(name)), what)
        for name, what in explained(report).items()
    ]


def signal_rows(report: Mapping[str, Any]) -> list[Row]:
    """The figures on the training signal; none where no teacher was at hand."""
    signal = report.get("training_signal")
    if signal is None:
        return []
    real = signal["real_against_real"]
    return [
        Row(
            name,
            shown(signal_figure(signal, name)),
            shown_interval(signal.get(f"{name}_interval")),
            shown(signal_figure(real, name)),
            what,
        )
        for name, what in SIGNAL_FIGURES.items()
    ]


def signal_figure(signal: Mapping[str, Any], name: str) -> float:
    """One number for a figure that may be a dict by map."""
    value = signal[name]
    return sum(value.values()) / len(value) if isinstance(value, Mapping) else value


def report_table(report: Mapping[str, Any]) -> str:
    """The figures of one generator beside real against real, one line each."""
    lines = [f"{'figure':<22}{'ours':>12}{'95% interval':>20}{'real':>12}"]
    lines += [text_line(row) for row in rows(report)]
    if signal := signal_rows(report):
        lines += ["On the training signal, so not independent:", *map(text_line, signal)]
    return "\n".join([*lines, footnote(report)])


def text_line(row: Row) -> str:
    return f"{row.name:<22}{row.ours:>12}{row.interval:>20}{row.real:>12}  {row.what}"


def footnote(report: Mapping[str, Any]) -> str:
    """How many images the figures rest on, in a sentence."""
    counts = report["counts"]
    n = counts["compared_images_a_set"]
    return (
        f"{counts['samples']} samples; distances compare {n} with {n} real images ('real': {n} other real ones with "
        f"the same); nearest among {counts['real_images_searched_for_the_nearest']}."
    )


def comparison_rows(reports: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Name, a value for each report, real against real of the first, and the explanation, of every figure."""
    lines = [
        [name, *(shown(report.get(name)) for report in reports), shown(reports[0]["real_against_real"].get(name)), what]
        for name, what in explained({name: None for report in reports for name in report}).items()
    ]
    signals = [report.get("training_signal") for report in reports]
    if signals[0] is None:
        return lines
    return lines + [
        [
            name,
            *(shown(None if signal is None else signal_figure(signal, name)) for signal in signals),
            shown(signal_figure(signals[0]["real_against_real"], name)),
            f"not independent: {what}",
        ]
        for name, what in SIGNAL_FIGURES.items()
    ]


def comparison_table(reports: Sequence[Mapping[str, Any]]) -> str:
    """The figures of several generators, a column each in their order; the last column is real against real."""
    header = [f"{'figure':<22}", *(f"{f'[{number}]':>12}" for number in range(1, len(reports) + 1)), f"{'real':>12}"]
    lines = [f"[{number}] {name_of(report)}" for number, report in enumerate(reports, start=1)]
    lines.append("".join(header))
    for name, *values, _ in comparison_rows(reports):
        lines.append(f"{name:<22}" + "".join(f"{value:>12}" for value in values))
    return "\n".join([*lines, footnote(reports[0])])


def name_of(report: Mapping[str, Any]) -> str:
    """What was judged."""
    resolution = report["method"]["resolution"]
    return f"{report['model']} at {resolution}×{resolution}"
