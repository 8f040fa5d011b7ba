"""Judging images by networks that were not used in training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dinogen.errors import DinogenError
from dinogen.evaluate import bootstrap, metrics
from dinogen.evaluate.detail import METHOD as DETAIL_METHOD
from dinogen.evaluate.detail import detail_votes, shared_parts
from dinogen.evaluate.detector import FACE_METHOD, SURE, Detector
from dinogen.evaluate.extractors import Extractor
from dinogen.evaluate.nearest import COPY, PIXELS_SIDE, Nearest, closeness, neighbours

FEWEST = 6  # images a set: what the fifth nearest neighbour needs
REDUCTION = "averaged (box filter) down to the resolution of the samples"
INTERVAL = "95%, bootstrap over images; for precision to coverage with the neighbourhoods held fixed"


@dataclass(frozen=True)
class Judges:
    """Who judges.

    Args:
        detector: finds faces, and lends the features that most figures are taken in.
        others: further networks whose features Fréchet and kernel distances are taken in too.
    """

    detector: Detector
    others: Sequence[Extractor] = ()

    @property
    def extractors(self) -> list[Extractor]:
        return [self.detector, *self.others]

    def look_at(self, images: Tensor) -> "ImageSet":
        """What they make of uint8 `[n, 3, R, R]`, the search for faces apart."""
        return ImageSet(images, {network.name: network.features(images) for network in self.extractors})


@dataclass
class ImageSet:
    """Images, and what the judges make of them.

    Args:
        pixels: uint8 `[n, 3, R, R]`.
        features: float64 `[n, d]` by extractor; always the detector's.
        faces: `[n]`, how sure the detector is of a face in each; empty where nobody asked.
    """

    pixels: Tensor
    features: dict[str, Tensor]
    faces: Tensor = field(default_factory=lambda: torch.zeros(0))

    def part(self, first: int, end: int) -> "ImageSet":
        """Images `first` to `end - 1`."""
        features = {name: values[first:end] for name, values in self.features.items()}
        return ImageSet(self.pixels[first:end], features, self.faces[first:end])

    def rows(self, numbers: Sequence[int]) -> "ImageSet":
        """Some of the images, without what is known of their faces."""
        return ImageSet(self.pixels[numbers], {name: values[numbers] for name, values in self.features.items()})

    def joined(self, others: "ImageSet") -> "ImageSet":
        """These images and others after them, without what is known of their faces."""
        features = {name: torch.cat([values, others.features[name]]) for name, values in self.features.items()}
        return ImageSet(torch.cat([self.pixels, others.pixels]), features)

    @property
    def detected(self) -> Tensor:
        """The detector's features."""
        return self.features["detector"]


@dataclass
class Judgement:
    """A report, the real image nearest to each sample, by the way of seeing, and what the judges made of both."""

    report: dict[str, Any]
    nearest: dict[str, Nearest]
    samples: ImageSet
    reals: ImageSet


def evaluate_images(samples: Tensor, reals: Tensor, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Compare samples with real images.

    The reals are split into two halves. The first is what the samples are compared with; the second stands in for
    the samples in the same comparison, which shows what a perfect generator would get from this number.

    Args:
        samples: uint8 `[n, 3, R, R]`.
        reals: uint8 `[m, 3, S, S]`, in random order; reduced to R. With fewer than 2n of them the comparison
            uses only m/2 images a set; faces are always counted in all samples.
        device: where the detector computes.

    Returns:
        The figures (`report.FIGURES` explains each), their `intervals`, `real_against_real` with the same figures,
        `counts` and `method`: plain, finite values for JSON.

    Raises:
        DinogenError: too few images.
    """
    return judge(samples, reals, Judges(Detector(device))).report


def judge(samples: Tensor, reals: Tensor, judges: Judges) -> Judgement:
    """`evaluate_images` by any judges, with the nearest real of each sample."""
    n = images_a_set(len(samples), len(reals))
    reals = reduce_to(reals, samples.shape[-1])
    detector = judges.detector
    ours, searched = judges.look_at(samples), judges.look_at(reals)
    ours.faces = detector.face_probabilities(samples, "looking for faces in samples")
    reference, others = searched.part(0, n), searched.part(n, 2 * n)
    others.faces = detector.face_probabilities(others.pixels, "looking for faces in real images")
    near = {
        "detector": neighbours(ours.detected, searched.detected, n, 2 * n),
        "pixels": neighbours(small_pixels(samples), small_pixels(reals), n, 2 * n),
    }
    unit = near["detector"].unit
    ours_near = {name: found.ours for name, found in near.items()}
    report = {
        **with_confidence(ours, reference, closeness(ours_near, ours.detected, unit)),
        "real_against_real": with_confidence(
            others, reference, closeness({name: found.others for name, found in near.items()}, others.detected, unit)
        ),
        "counts": {
            "samples": len(samples),
            "compared_images_a_set": n,
            "real_images_searched_for_the_nearest": len(reals),
        },
        "method": {
            **FACE_METHOD,
            **{f"features_{network.name}": network.method for network in judges.extractors},
            "resolution": samples.shape[-1],
            "reals": REDUCTION,
            "detail": DETAIL_METHOD,
            "copies": f"nearer to a real image than {COPY} of the median distance between a real image and the nearest "
            f"other one, in the detector's features or in pixels at {PIXELS_SIDE}×{PIXELS_SIDE}",
            "intervals": INTERVAL,
        },
    }
    return Judgement(report, ours_near, ours, searched)


def images_a_set(samples: int, reals: int) -> int:
    """How many images of each kind can be compared.

    Raises:
        DinogenError: too few to judge by.
    """
    n = min(samples, reals // 2)
    if n < FEWEST:
        raise DinogenError(
            f"{samples} samples and {reals} reference images are too few to judge by; "
            f"give at least {FEWEST} and {2 * FEWEST}"
        )
    return n


def reduce_to(images: Tensor, resolution: int) -> Tensor:
    """uint8 `[n, 3, S, S]` averaged down to uint8 `[n, 3, resolution, resolution]`, as the trainer does it."""
    if images.shape[-1] == resolution:
        return images
    return F.interpolate(images.float(), size=(resolution, resolution), mode="area").round().byte()


def small_pixels(images: Tensor) -> Tensor:
    """Pixels as a row each, averaged down to where fine detail plays no role: uint8 `[n, d]`."""
    return reduce_to(images, min(images.shape[-1], PIXELS_SIDE)).flatten(1)


def figures(images: ImageSet, reference: ImageSet) -> dict[str, float]:
    """The figures of a set beside a reference.

    Args:
        images: n or more; faces are counted in all of them, the first n are compared.
        reference: n images.
    """
    ours = images.part(0, len(reference.pixels))
    found = {"face_rate": sure_of_face(images).mean().item()}
    for name, features in ours.features.items():
        found[f"frechet_{name}"] = metrics.frechet_distance(features, reference.features[name])
        found[f"kernel_{name}"] = metrics.kernel_distance(features, reference.features[name])
    found["diversity_pixels"] = relative_diversity(ours.pixels.flatten(1), reference.pixels.flatten(1))
    found["diversity_features"] = relative_diversity(ours.detected, reference.detected)
    found |= metrics.fidelity_and_variety(ours.detected, reference.detected)
    votes = detail_votes(ours.pixels, reference.pixels)
    return found | {name: values.mean().item() for name, values in votes.items()} | shared_parts(ours.pixels)


def intervals(images: ImageSet, reference: ImageSet, found: Mapping[str, float]) -> dict[str, bootstrap.Interval]:
    """How sure `figures` are, for the same sets; `found` is what they came to."""
    ours = images.part(0, len(reference.pixels))
    sure = {"face_rate": bootstrap.mean_interval(sure_of_face(images))}
    for name, features in ours.features.items():
        others, distance = reference.features[name], found[f"frechet_{name}"]
        sure[f"frechet_{name}"] = bootstrap.frechet_interval(features, others, distance)
        sure[f"kernel_{name}"] = bootstrap.kernel_interval(features, others)
    for name, rows, others in (
        ("diversity_pixels", ours.pixels.flatten(1), reference.pixels.flatten(1)),
        ("diversity_features", ours.detected, reference.detected),
    ):
        sure[name] = bootstrap.diversity_interval(rows, others) if found[name] > 0 else [0.0, 0.0]
    votes = metrics.fidelity_and_variety_votes(ours.detected, reference.detected)
    votes |= detail_votes(ours.pixels, reference.pixels)
    return sure | {name: bootstrap.mean_interval(values) for name, values in votes.items()}


def with_confidence(images: ImageSet, reference: ImageSet, close: Mapping[str, Any]) -> dict[str, Any]:
    """`figures`, those of `closeness`, and all their intervals."""
    found = figures(images, reference)
    return {**found, **close, "intervals": intervals(images, reference, found) | close["intervals"]}


def sure_of_face(images: ImageSet) -> Tensor:
    """1 for every image in which the detector is sure of a face, else 0, float64."""
    return (images.faces >= SURE).double()


def relative_diversity(rows: Tensor, reference: Tensor) -> float:
    """Mean pairwise distance over the reference's; 0 where the reference is one image many times."""
    spread = metrics.mean_pairwise_distance(reference)
    return metrics.mean_pairwise_distance(rows) / spread if spread > 0 else 0.0
