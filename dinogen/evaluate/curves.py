"""A run's scalars as line charts, laid out for the SVG of `templates/parts.html`."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

Curve = list[tuple[float, float]]  # kimg, value

CHARTS = {
    "face_rate": "metrics/face_rate",
    "Fréchet distance, detector features": "metrics/frechet_detector",
    "coverage": "metrics/coverage",
    "diversity, detector features": "metrics/diversity_features",
    "diversity, pixels": "overview/diversity",
    **{f"individual detail at {side} px": f"metrics/individual_detail_{side}" for side in (16, 32, 64, 128, 256)},
    "displacement, mean of all maps": "overview/drift",
    "spread, mean of all maps": "overview/spread",
    "R-precision of captions": "metrics/r_precision",
    "captions that fit worse than the own one": "metrics/caption_rank",
    "loss": "loss/total",
    "resolution": "schedule/resolution",
    "real images a second": "overview/images_per_second",
}
MOST_POINTS = 200
COLOURS = ("#1f6feb", "#d1495b", "#2a9d4a", "#8a63d2", "#c77d0a", "#11909a")
WIDTH, HEIGHT = 340, 200
LEFT, RIGHT, TOP, BOTTOM = 56, 10, 26, 30  # margins around the lines
TICKS = 4


def read_curves(run: Path) -> dict[str, Curve]:
    """The scalars of `CHARTS` that a run has logged, by the charts' titles; none where it has no log."""
    log = run / "stats.jsonl"
    points: dict[str, Curve] = {title: [] for title in CHARTS}
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else ():
        with suppress(ValueError, TypeError, KeyError, AttributeError):  # a line that a broken disk has changed
            scalars = json.loads(line)
            for title, tag in CHARTS.items():
                if scalars.get(tag) is not None:
                    points[title].append((float(scalars["kimg"]), float(scalars[tag])))
    return {title: thinned(curve) for title, curve in points.items() if len(curve) > 1}


def thinned(points: Curve) -> Curve:
    """At most `MOST_POINTS` points, each the average of its neighbours."""
    size = -(-len(points) // MOST_POINTS)
    groups = [points[first : first + size] for first in range(0, len(points), size)]
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


@dataclass(frozen=True)
class Chart:
    """Where everything of a line chart stands, in units of its SVG.

    Args:
        title: what is shown.
        heights: y and label of each horizontal line.
        places: x, label and text anchor of each label below.
        lines: colour and points (`x,y x,y …`) of each curve.
    """

    title: str
    heights: list[tuple[float, str]]
    places: list[tuple[float, str, str]]
    lines: list[tuple[str, str]]
    width = WIDTH
    height = HEIGHT
    left = LEFT
    right = WIDTH - RIGHT


def colour_of(index: int) -> str:
    """The colour of a run's lines, by its place in the order of runs."""
    return COLOURS[index % len(COLOURS)]


def charts(runs: Sequence[Mapping[str, Curve]]) -> list[Chart]:
    """All charts that any of the runs has, each with a line a run.

    Args:
        runs: curves as of `read_curves`, for each run.
    """
    drawn = []
    for title in CHARTS:
        lines = [(colour_of(index), curves[title]) for index, curves in enumerate(runs) if title in curves]
        if lines:
            drawn.append(chart(title, lines))
    return drawn


def guidance_charts(sweep: Sequence[Mapping[str, float]]) -> list[Chart]:
    """What guidance does to obedience and to diversity within a prompt, see `attribute_report`."""
    titles = {"obeys": "share of samples as asked", "diversity": "diversity within a prompt"}
    return [
        chart(title, [(COLOURS[0], [(each["guidance"], each[key]) for each in sweep])], " guidance")
        for key, title in titles.items()
        if sweep
    ]


def chart(title: str, lines: Sequence[tuple[str, Curve]], unit: str = " kimg") -> Chart:
    """Lay out one chart; each line comes with its colour. The last label below bears the unit."""
    xs = [x for _, points in lines for x, _ in points]
    ys = [y for _, points in lines for _, y in points]
    left, right = min(xs), max(max(xs), min(xs) + 1e-9)
    low, high = min(ys), max(ys)
    margin = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    low, high = low - margin, high + margin

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (x - left) / (right - left) * (WIDTH - LEFT - RIGHT)
        return round(across, 1), round(HEIGHT - BOTTOM - (y - low) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    heights, places = [], []
    for tick in range(TICKS + 1):
        at_x, at_y = left + tick / TICKS * (right - left), low + tick / TICKS * (high - low)
        x, y = place(at_x, at_y)
        heights.append((y, f"{at_y:.3g}"))
        if tick % 2 == 0:  # more labels below would run into each other
            label = f"{at_x:.4g}" + (unit if tick == TICKS else "")
            places.append((x, label, ("start", "middle", "end")[tick * 2 // TICKS]))
    paths = [(colour, " ".join("{},{}".format(*place(*point)) for point in points)) for colour, points in lines]
    return Chart(title, heights, places, paths)
