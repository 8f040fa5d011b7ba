"""The figures in words and as a table."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dinogen.evaluate.verdict import too_few

# Which of two values is the better one: the lower, the higher, the more real one, or neither.
LOW, HIGH, REAL, NEITHER = "low", "high", "real", ""


@dataclass(frozen=True)
class Figure:
    """What a figure means, and which value of it is best."""

    what: str
    best: str


FIGURES = {
    "face_rate": Figure("share of images in which a face detector is sure of a face", HIGH),
    "frechet_detector": Figure("Fréchet distance in the detector's features; lower is better", LOW),
    "kernel_detector": Figure("kernel distance (KID) in the same features; lower is better", LOW),
    "diversity_pixels": Figure("mean distance between two images over that of real ones, in pixels; 1 is right", REAL),
    "diversity_features": Figure("the same in the detector's features; 1 is right", REAL),
    "precision": Figure("share of images that look like real ones", HIGH),
    "recall": Figure("share of real images that ours could look like", HIGH),
    "density": Figure("like precision, robust to outliers; real images score about 1", HIGH),
    "coverage": Figure("share of real images that have one of ours nearby", HIGH),
    "copies": Figure("share of images that are nearly a real image", LOW),
    "repeats": Figure("share of images that are nearly another one of ours", LOW),
    "nearest_real_detector": Figure(
        "median distance to the nearest real image, by the detector; real ones have 1", REAL
    ),
    "nearest_real_pixels": Figure("the same in pixels", REAL),
    "top_octave_power": Figure("power at the highest spatial frequencies over the real images'; 1 is right", REAL),
}
# Each of these is a figure for every octave, named by the side of an image in which it is the finest one.
OCTAVE_FIGURES = {
    "individual_detail": Figure("detail of the inner face that differs between faces, over the real images'", REAL),
    "shared_part": Figure("share of the inner face's detail that is the same in all", REAL),
}
FURTHER_NETWORKS = {"inception": "Inception's", "clip": "CLIP's"}
WALK_FIGURES = {
    "walk_largest_step": Figure("walks between faces: the largest step over the median one; above 3 it jumps", LOW),
    "walk_ends": Figure("distance between a walk's ends over that between two samples; near 0: one face", HIGH),
}
SIGNAL_FIGURES = {
    "frechet_teacher": Figure("Fréchet distance of the teacher's class tokens; with a DINOv2, FD-DINOv2", LOW),
    "kernel_teacher": Figure("kernel distance of the same", LOW),
    "nearest_real_teacher": Figure("median distance to the nearest real image by the teacher; real ones have 1", REAL),
    "displacement": Figure("how far the teacher's features have still to move, mean of all maps", LOW),
    "spread": Figure("distance among generated features over that to real ones; near 1 is right", REAL),
}
OTHERS = "the same with captions of other images: what chance gives"
WORD_FIGURES = {
    "r_precision": Figure("share of images whose own caption fits best, among 100 or all different ones", HIGH),
    "r_precision_shuffled": Figure(OTHERS, NEITHER),
    "caption_rank": Figure("share of other captions that fit an image worse than its own", HIGH),
    "caption_rank_shuffled": Figure(OTHERS, NEITHER),
    "frechet_joint": Figure("Fréchet distance of images joined with their captions; lower is better", LOW),
    "frechet_joint_shuffled": Figure(OTHERS, NEITHER),
    "clip_score": Figure("mean cosine between CLIP's embeddings of image and caption", HIGH),
    "clip_score_shuffled": Figure(OTHERS, NEITHER),
}
# Each of these is a figure for every attribute, the mean of its two prompts.
ATTRIBUTE_FIGURES = {
    "obeys": Figure("share of samples that show what their prompt asks for; chance is 0.5", HIGH),
    "diversity": Figure("mean distance between two of a prompt's samples over that of real ones; 1 is right", REAL),
    "coverage": Figure("share of such real images that have one of a prompt's samples nearby", HIGH),
}
NOTHING = "–"
BEST = "*"
DISTANCES = ("frechet_", "kernel_")  # begin the names of what is biased, or uncertain, with few images

Report = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """One figure as text, of one generator or of several.

    Args:
        name: of the figure.
        values: one for each generator.
        best: places of the best of several values.
        interval: of the first generator's value.
        real: what other real images get in the samples' place.
        what: it means.
    """

    name: str
    values: list[str]
    best: set[int]
    interval: str
    real: str
    what: str


def figure_rows(reports: Sequence[Report]) -> list[Row]:
    """All independent figures that any of the reports has."""
    return make_rows(reports, reports, known_figures({name for report in reports for name in report}))


def signal_rows(reports: Sequence[Report]) -> list[Row]:
    """The figures on the training signal; none where no teacher was at hand."""
    signals = [report.get("training_signal") or {} for report in reports]
    present = {name: figure for name, figure in SIGNAL_FIGURES.items() if any(name in signal for signal in signals)}
    return make_rows(reports, signals, present)


def words_rows(reports: Sequence[Report]) -> list[Row]:
    """The figures on words; none where no generator takes any."""
    blocks = [report.get("words") or {} for report in reports]
    present = {name: figure for name, figure in WORD_FIGURES.items() if any(name in block for block in blocks)}
    for attribute in dict.fromkeys(name for block in blocks for name in attributes_of(block)):
        for kind, figure in ATTRIBUTE_FIGURES.items():
            present[f"{kind}_{attribute}"] = Figure(f"{attribute}: {figure.what}", figure.best)
    return make_rows(reports, blocks, present)


def attributes_of(block: Report) -> list[str]:
    """Names of the attributes that a report's words speak of."""
    return [name.removeprefix("obeys_") for name in block if name.startswith("obeys_")]


def known_figures(names: Collection[str]) -> dict[str, Figure]:
    """Those of `names` that are figures, in the order of a table."""
    further = {}
    for network, whose in FURTHER_NETWORKS.items():
        further[f"frechet_{network}"] = Figure(f"Fréchet distance in {whose} features; lower is better", LOW)
        further[f"kernel_{network}"] = Figure(f"kernel distance (KID) in {whose} features; lower is better", LOW)
    everything = {}
    for name, figure in (FIGURES | OCTAVE_FIGURES | WALK_FIGURES).items():
        everything[name] = figure
        if name == "kernel_detector":
            everything |= further
        sides = (other.removeprefix(f"{name}_") for other in names if other.startswith(f"{name}_"))
        for side in sorted((int(side) for side in sides if side.isdecimal()), reverse=True):
            everything[f"{name}_{side}"] = Figure(f"{figure.what}; at {side} px", figure.best)
    return {name: figure for name, figure in everything.items() if name in names}


def make_rows(reports: Sequence[Report], blocks: Sequence[Report], figures: Mapping[str, Figure]) -> list[Row]:
    """Rows of figures that stand in `blocks`: the reports themselves, or a part of each."""
    few = too_few(reports[0]) != ""
    made = []
    for name, figure in figures.items():
        values = [one_number(block.get(name)) for block in blocks]
        first = next(block for block in blocks if name in block)
        real = one_number(first["real_against_real"].get(name))
        made.append(
            Row(
                name,
                [shown(value) for value in values],
                best_of(values, figure.best, real) if comparable(reports) and figure.best != NEITHER else set(),
                shown_interval(first["intervals"].get(name)),
                shown(real),
                f"too few samples: {figure.what}" if few and name.startswith(DISTANCES) else figure.what,
            )
        )
    return made


def one_number(value: Any) -> float | None:
    """One number for a figure that may be a dict by map."""
    return sum(value.values()) / len(value) if isinstance(value, Mapping) else value


def best_of(values: Sequence[float | None], best: str, real: float | None) -> set[int]:
    """Places of the best of several values; all that look the same when shown count, and none if all do."""
    loss = {LOW: lambda x: x, HIGH: lambda x: -x, REAL: lambda x: abs(x - (1.0 if real is None else real))}[best]
    losses = {place: loss(value) for place, value in enumerate(values) if value is not None}
    least = min(losses, key=lambda place: losses[place], default=0)
    winners = {place for place in losses if shown(values[place]) == shown(values[least])}
    return winners if len(winners) < len(values) else set()


def comparable(reports: Sequence[Report]) -> bool:
    """Whether the same figure of several reports can be compared: there are several, at one resolution."""
    return len(reports) > 1 and len({report["method"]["resolution"] for report in reports}) == 1


def shown(value: float | None) -> str:
    """A figure with three digits."""
    return NOTHING if value is None else f"{value:.3g}"


def shown_interval(interval: Sequence[float] | None) -> str:
    """An interval with three digits."""
    return "" if interval is None else f"{interval[0]:.3g} to {interval[1]:.3g}"


def report_table(report: Report) -> str:
    """A verdict, and the figures of one generator beside real against real, one line each."""
    parts = {
        "": figure_rows([report]),
        "Words:": words_rows([report]),
        "On the training signal, so not independent:": signal_rows([report]),
    }
    heading = Row("figure", ["ours"], set(), "95% interval", "real", "")
    width = name_width([row for rows in parts.values() for row in rows])
    lines = [*report["verdict"], "", text_line(heading, width).rstrip()]
    for title, rows in parts.items():
        lines += [title] * bool(title and rows) + [text_line(row, width) for row in rows]
    return "\n".join([*lines, footnote(report)])


def name_width(rows: Sequence[Row]) -> int:
    """Of the column of names."""
    return max(len(row.name) for row in rows) + 1


def text_line(row: Row, width: int) -> str:
    """One row, its name in a column of a width; intervals have at most 22 characters."""
    return f"{row.name:<{width}}{row.values[0]:>11}{row.interval:>24}{row.real:>12}  {row.what}"


def footnote(report: Report) -> str:
    """How many images the figures rest on, in a sentence."""
    counts = report["counts"]
    n = counts["compared_images_a_set"]
    return (
        f"{counts['samples']} samples; distances compare {n} with {n} real images ('real': {n} other real ones with "
        f"the same); nearest among {counts['real_images_searched_for_the_nearest']}."
    )


def comparison_table(reports: Sequence[Report]) -> str:
    """Verdicts and figures of several generators, a column each in their order; the last one is real against real."""
    numbers = [f"[{number}]" for number in range(1, len(reports) + 1)]
    lines = [f"{number} {name_of(report)}: {report['verdict'][0]}" for number, report in zip(numbers, reports)]
    rows = [*figure_rows(reports), *words_rows(reports), *signal_rows(reports)]
    width = name_width(rows)
    lines.append("".join([f"\n{'figure':<{width}}", *(f"{number:>12} " for number in numbers), f"{'real':>12}"]))
    for row in rows:
        cells = [f"{value:>12}{BEST if place in row.best else ' '}" for place, value in enumerate(row.values)]
        lines.append("".join([f"{row.name:<{width}}", *cells, f"{row.real:>12}"]))
    if comparable(reports):
        lines.append(f"{BEST} the best of these.")
    return "\n".join([*lines, footnote(reports[0])])


def name_of(report: Report) -> str:
    """What was judged."""
    resolution = report["method"]["resolution"]
    return f"{report['model']} at {resolution}×{resolution}"
