"""A run's scalars as line charts, drawn as inline SVG: pages need no picture files and no script."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

Curve = list[tuple[float, float]]  # kimg, value

CHARTS = {
    "face_rate": "metrics/face_rate",
    "Fréchet distance, detector features": "metrics/frechet_detector",
    "coverage": "metrics/coverage",
    "diversity, detector features": "metrics/diversity_features",
    "diversity, pixels": "diversity/pixels",
    "displacement, mean of all maps": "displacement/",
    "spread, mean of all maps": "spread/",
    "loss": "loss/total",
    "resolution": "schedule/resolution",
    "real images a second": "speed/images_per_second",
}
MOST_POINTS = 200
COLOURS = ("#1f6feb", "#d1495b", "#2a9d4a", "#8a63d2", "#c77d0a", "#11909a")
WIDTH, HEIGHT = 340, 200
LEFT, RIGHT, TOP, BOTTOM = 56, 10, 26, 30  # margins around the lines
TICKS = 4


def run_folder_of(model: str) -> Path | None:
    """The run that a model is, or whose snapshot it is; None where it has left no TensorBoard log."""
    folder = Path(model).expanduser()
    for candidate in (folder, folder.absolute().parent.parent):
        if (candidate / "tensorboard").is_dir():
            return candidate
    return None


def read_curves(run: Path) -> dict[str, Curve]:
    """The scalars of `CHARTS` that a run has logged, by the charts' titles."""
    log = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    log.Reload()
    tags = log.Tags()["scalars"]
    curves = {}
    for title, wanted in CHARTS.items():
        chosen = [tag for tag in tags if tag == wanted or (wanted.endswith("/") and tag.startswith(wanted))]
        by_step: dict[int, list[float]] = {}
        for tag in chosen:
            for event in log.Scalars(tag):
                by_step.setdefault(event.step, []).append(event.value)
        points = [(step / 1000, sum(values) / len(values)) for step, values in sorted(by_step.items())]
        finite = [(kimg, value) for kimg, value in points if math.isfinite(value)]
        if len(finite) > 1:
            curves[title] = thinned(finite)
    return curves


def thinned(points: Curve) -> Curve:
    """At most `MOST_POINTS` points, each the average of its neighbours."""
    size = -(-len(points) // MOST_POINTS)
    groups = [points[first : first + size] for first in range(0, len(points), size)]
    return [tuple(sum(numbers) / len(group) for numbers in zip(*group)) for group in groups]


def charts(runs: Mapping[str, Mapping[str, Curve]]) -> str:
    """All charts that any of the runs has, each with a line a run, in the runs' order; HTML.

    Args:
        runs: curves by the run's name, as of `read_curves`.
    """
    drawn = []
    for title in CHARTS:
        lines = [(index, curves[title]) for index, curves in enumerate(runs.values()) if title in curves]
        if lines:
            drawn.append(chart(title, lines))
    if not drawn:
        return ""
    names = [
        f'<span style="color:{COLOURS[index % len(COLOURS)]}">■ {escape(name)}</span>'
        for index, name in enumerate(runs)
    ]
    legend = f'<p class="note">{" &nbsp; ".join(names)}</p>\n' if len(names) > 1 else ""
    return legend + "\n".join(drawn)


def chart(title: str, lines: Sequence[tuple[int, Curve]]) -> str:
    """One chart; each line has the number of its colour."""
    xs = [x for _, points in lines for x, _ in points]
    ys = [y for _, points in lines for _, y in points]
    left, right = min(xs), max(max(xs), min(xs) + 1e-9)
    low, high = min(ys), max(ys)
    margin = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    low, high = low - margin, high + margin

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (x - left) / (right - left) * (WIDTH - LEFT - RIGHT)
        return round(across, 1), round(HEIGHT - BOTTOM - (y - low) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    parts = [f'<text x="{LEFT}" y="16" font-weight="600">{escape(title)}</text>']
    for tick in range(TICKS + 1):
        share = tick / TICKS
        x, y = place(left + share * (right - left), low + share * (high - low))
        parts.append(f'<line x1="{LEFT}" y1="{y}" x2="{WIDTH - RIGHT}" y2="{y}" stroke="#e4e4e4"/>')
        parts.append(f'<text x="{LEFT - 5}" y="{y + 4}" text-anchor="end">{low + share * (high - low):.3g}</text>')
        if tick % 2 == 0:  # more labels below would run into each other
            label = f"{left + share * (right - left):.4g}" + (" kimg" if tick == TICKS else "")
            anchor = ("start", "middle", "end")[tick * 2 // TICKS]
            parts.append(f'<text x="{x}" y="{HEIGHT - 10}" text-anchor="{anchor}">{label}</text>')
    for number, points in lines:
        path = " ".join("{},{}".format(*place(*point)) for point in points)
        colour = COLOURS[number % len(COLOURS)]
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    return (
        f'<svg width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )
