"""Showing a judgement to people: a table and pictures."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dinogen.images import image_grid, save_png, viewing_scale

PAIRS_SHOWN = 32
PAIRS_A_ROW = 4

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
    "nearest_real_median": "distance to the nearest real image; far below the right column: copies",
    "nearest_real_closest": "the smallest of these distances",
}


def table(report: dict[str, Any]) -> str:
    """The figures, ours beside real against real, one line each."""
    real = report["real_against_real"]
    low, high = report["face_rate_interval"]
    lines = [f"{'figure':<22}{'ours':>12}{'real':>12}"]
    lines += [f"{name:<22}{report[name]:>12.4g}{real[name]:>12.4g}  {what}" for name, what in FIGURES.items()]
    lines.append(f"95% interval of face_rate: {low:.3f} to {high:.3f}. {counts_line(report)}")
    return "\n".join(lines)


def counts_line(report: dict[str, Any]) -> str:
    """How many images the figures rest on, in words."""
    counts = report["counts"]
    n = counts["compared_images_a_set"]
    return (
        f"{counts['samples']} samples; distances compare {n} with {n} real images ('real': {n} other real ones with "
        f"the same); nearest among {counts['real_images_searched_for_the_nearest']}."
    )


def save_nearest(samples: Tensor, reals: Tensor, distance: Tensor, row: Tensor, path: Path) -> None:
    """Draw the samples that come closest to a real image, each beside it, the closest pair first.

    Args:
        samples: uint8 `[n, 3, R, R]`.
        reals: uint8 `[m, 3, R, R]`.
        distance: `[n]`, to the nearest real of each sample.
        row: `[n]`, which real that is.
        path: the PNG to write.
    """
    closest = distance.argsort()[:PAIRS_SHOWN]
    pairs = torch.stack([samples[closest], reals[row[closest]]], dim=1).flatten(0, 1)
    save_png(image_grid(pairs, columns=2 * PAIRS_A_ROW, upscale=viewing_scale(samples.shape[-1])), path)
