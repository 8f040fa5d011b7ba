"""Judging images by what had no part in their making."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dinogen.errors import DinogenError
from dinogen.evaluate import metrics
from dinogen.evaluate.detector import METHOD, SURE, Detector

FEWEST = 6  # images a set: what the fifth nearest neighbour needs


REDUCTION = "averaged (box filter) down to the resolution of the samples"


@dataclass
class ImageSet:
    """Images, and what the detector makes of them.

    Args:
        pixels: uint8 `[n, 3, R, R]`.
        features: float64 `[n, 256]`.
    """

    pixels: Tensor
    features: Tensor

    def part(self, first: int, end: int) -> "ImageSet":
        """Images `first` to `end - 1`."""
        return ImageSet(self.pixels[first:end], self.features[first:end])


@dataclass
class Judgement:
    """A report, and for each sample the nearest real as a row of the reals that were given."""

    report: dict[str, Any]
    nearest_distance: Tensor
    nearest_row: Tensor


def evaluate_images(samples: Tensor, reals: Tensor, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Compare samples with real images.

    The reals are split into two halves. The first is what the samples are compared with; the second stands in for
    the samples in the same comparison, which shows what a perfect generator would get from so many images.

    Args:
        samples: uint8 `[n, 3, R, R]`.
        reals: uint8 `[m, 3, S, S]`, in random order; reduced to R. With fewer than 2n of them the comparison
            uses only m/2 images a set; faces are always counted in all samples.
        device: where the detector computes.

    Returns:
        The figures (`report.FIGURES` explains each), `real_against_real` with the same figures, `counts` and
        `method`: plain, finite values for JSON.

    Raises:
        DinogenError: too few images.
    """
    return judge(samples, reals, device).report


def judge(samples: Tensor, reals: Tensor, device: torch.device | str = "cpu") -> Judgement:
    """`evaluate_images` with the nearest real of each sample."""
    n = min(len(samples), len(reals) // 2)
    if n < FEWEST:
        raise DinogenError(
            f"{len(samples)} samples and {len(reals)} reference images are too few to judge by; "
            f"give at least {FEWEST} and {2 * FEWEST}"
        )
    reals = reduce_to(reals, samples.shape[-1])
    detector = Detector(device)
    ours = ImageSet(samples, detector.features(samples))
    searched = ImageSet(reals, detector.features(reals))
    reference, others = searched.part(0, n), searched.part(n, 2 * n)
    distance, row = metrics.nearest(ours.features, searched.features)
    other_distance, _ = metrics.nearest(others.features, searched.features, rank=2)
    report = {
        **face_figures(ours, detector, "looking for faces in samples"),
        **figures(ours.part(0, n), reference, distance),
        "real_against_real": {
            **face_figures(others, detector, "looking for faces in real images"),
            **figures(others, reference, other_distance),
        },
        "counts": {
            "samples": len(samples),
            "compared_images_a_set": n,
            "real_images_searched_for_the_nearest": len(reals),
        },
        "method": {
            **METHOD,
            "resolution": samples.shape[-1],
            "reals": REDUCTION,
            "interval": "95%, bootstrap over samples",
        },
    }
    return Judgement(report, distance, row)


def reduce_to(images: Tensor, resolution: int) -> Tensor:
    """uint8 `[n, 3, S, S]` averaged down to uint8 `[n, 3, resolution, resolution]`, as the trainer does it."""
    if images.shape[-1] == resolution:
        return images
    return F.interpolate(images.float(), size=(resolution, resolution), mode="area").round().byte()


def face_figures(images: ImageSet, detector: Detector, desc: str) -> dict[str, Any]:
    """How many of the images are faces, and between which shares that number lies."""
    sure = (detector.face_probabilities(images.pixels, desc) >= SURE).double()
    return {"face_rate": sure.mean().item(), "face_rate_interval": metrics.bootstrap_interval(sure)}


def figures(ours: ImageSet, reference: ImageSet, nearest_distance: Tensor) -> dict[str, float]:
    """All figures that compare two equally large sets."""
    return {
        "frechet_detector": metrics.frechet_distance(ours.features, reference.features),
        "kernel_detector": metrics.kernel_distance(ours.features, reference.features),
        "diversity_pixels": relative_diversity(ours.pixels.flatten(1), reference.pixels.flatten(1)),
        "diversity_features": relative_diversity(ours.features, reference.features),
        **metrics.fidelity_and_variety(ours.features, reference.features),
        "nearest_real_median": nearest_distance.median().item(),
        "nearest_real_closest": nearest_distance.min().item(),
    }


def relative_diversity(rows: Tensor, reference: Tensor) -> float:
    """Mean pairwise distance over the reference's; 0 where the reference is one image many times."""
    spread = metrics.mean_pairwise_distance(reference)
    return metrics.mean_pairwise_distance(rows) / spread if spread > 0 else 0.0
