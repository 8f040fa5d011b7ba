"""The figures in words and as a table."""

from collections.abc import Sequence
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


def shown(value: float) -> str:
    """A figure with four digits."""
    return f"{value:.4g}"


def report_table(report: dict[str, Any]) -> str:
    """The figures of one generator beside real against real, one line each."""
    real = report["real_against_real"]
    lines = [f"{'figure':<22}{'ours':>12}{'real':>12}"]
    lines += [f"{name:<22}{shown(report[name]):>12}{shown(real[name]):>12}  {what}" for name, what in FIGURES.items()]
    return "\n".join([*lines, footnote(report)])


def footnote(report: dict[str, Any]) -> str:
    """How sure the face rate is and how many images the figures rest on, in a sentence each."""
    low, high = report["face_rate_interval"]
    counts = report["counts"]
    n = counts["compared_images_a_set"]
    return (
        f"95% interval of face_rate: {low:.3f} to {high:.3f}. {counts['samples']} samples; distances compare {n} with "
        f"{n} real images ('real': {n} other real ones with the same); nearest among "
        f"{counts['real_images_searched_for_the_nearest']}."
    )


def comparison_table(reports: Sequence[dict[str, Any]]) -> str:
    """The figures of several generators, a column each in their order; the last column is real against real."""
    header = [f"{'figure':<22}", *(f"{f'[{number}]':>12}" for number in range(1, len(reports) + 1)), f"{'real':>12}"]
    lines = [f"[{number}] {name_of(report)}" for number, report in enumerate(reports, start=1)]
    lines.append("".join(header))
    for name in FIGURES:
        values = [report[name] for report in reports] + [reports[0]["real_against_real"][name]]
        lines.append(f"{name:<22}" + "".join(f"{shown(value):>12}" for value in values))
    return "\n".join([*lines, footnote(reports[0]).split(". ", 1)[1]])


def name_of(report: dict[str, Any]) -> str:
    """What was judged."""
    resolution = report["method"]["resolution"]
    return f"{report['model']} at {resolution}×{resolution}"
