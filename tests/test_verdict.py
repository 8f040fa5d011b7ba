"""Verdicts: on sets of real images, on sets that are spoilt in one way each, and on figures alone."""

import re
from typing import Any

import pytest
import torch

from dinogen.evaluate import evaluate_images
from dinogen.evaluate.detail import inner_face
from dinogen.evaluate.verdict import verdict
from helpers.drawn_face import draw_faces

REAL = {
    "face_rate": 1.0, "frechet_detector": 0.02, "diversity_pixels": 1.0, "diversity_features": 1.0, "coverage": 0.95,
    "copies": 0.0, "repeats": 0.0, "individual_detail_64": 1.0, "individual_detail_32": 1.0, "shared_part_64": 0.38,
    "shared_part_32": 0.42, "top_octave_power": 1.0,
}  # fmt: skip


def report_of(samples: int = 300, real: dict[str, float] | None = None, **ours: float) -> dict[str, Any]:
    counts = {"samples": samples, "compared_images_a_set": samples}
    return REAL | ours | {"real_against_real": REAL | (real or {}), "counts": counts}


def judged(samples: torch.Tensor, reals: torch.Tensor) -> str:
    return " ".join(verdict(evaluate_images(samples, reals)))


@pytest.fixture(scope="module")
def reals() -> torch.Tensor:
    return draw_faces(200)


# On images


def test_other_faces_of_the_same_kind_are_good(reals):
    assert judged(draw_faces(100, seed=1), reals).startswith("Good: ")


def test_one_face_many_times_has_collapsed(reals):
    assert judged(draw_faces(1, seed=1).expand(100, -1, -1, -1), reals).startswith(
        "Collapsed: the samples are nearly all"
    )


def test_three_faces_many_times_have_collapsed(reals):
    said = judged(draw_faces(3, seed=1).repeat(34, 1, 1, 1), reals)
    assert said.startswith("Collapsed: 100% of the samples nearly repeat")


def test_noise_and_blobs_are_still_learning(reals):
    blobs = torch.nn.functional.interpolate(draw_faces(100, seed=1).float(), size=2, mode="area")
    for samples in (torch.randint(0, 256, (100, 3, 64, 64)), torch.nn.functional.interpolate(blobs, size=64)):
        assert judged(samples.byte(), reals).startswith("Still learning: not faces yet")


def test_real_images_again_are_copies(reals):
    assert judged(reals[:100], reals).startswith("Copying: 100% of the samples")


def test_twenty_samples_are_too_few(reals):
    said = verdict(evaluate_images(draw_faces(20, seed=1), reals))
    assert said[0] == "Too few samples: distances of 20 images are mostly chance. Take more samples, 300 or more."


def test_one_inner_face_in_all_is_found_though_all_else_differs(reals):
    samples = draw_faces(100, seed=1)
    inner_face(samples)[:] = inner_face(samples)[:1]
    assert "nose and mouth hardly differ" in judged(samples, reals)


# On figures


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ({}, "Good: "),
        ({"face_rate": 0.4}, "Still learning: not faces yet"),
        ({"face_rate": 0.9}, "Fair: .*sure of a face in 90% of the samples"),
        ({"diversity_pixels": 0.1}, "Collapsed: the samples are nearly all alike"),
        ({"diversity_features": 0.7}, "Fair: .*vary less than real images"),
        ({"diversity_features": 1.4}, "Fair: .*vary more than real images"),
        ({"repeats": 0.6}, "Collapsed: 60% of the samples nearly repeat"),
        ({"repeats": 0.1}, "Fair: .*10% of the samples nearly repeat"),
        ({"copies": 0.1}, "Copying: 10% of the samples"),
        ({"coverage": 0.3}, "Far from real images: 30% of the real images"),
        ({"coverage": 0.7}, "Fair: .*70% of the real images"),
        ({"frechet_detector": 0.15}, "Fair: .*Fréchet distance is 0.15"),
        ({"individual_detail_64": 0.1, "shared_part_64": 0.9}, "One face in all: eyes, nose and mouth hardly differ"),
        (
            {"individual_detail_64": 0.3, "shared_part_64": 0.45},
            "Fair: .*lack detail: 0.30 of the real images' at 64 px",
        ),
        ({"top_octave_power": 0.5}, "Fair: .*Too smooth"),
        ({"top_octave_power": 2.0}, "Fair: .*Too rough"),
        ({"walk_largest_step": 4.0}, "Fair: .*jump"),
        ({"real": {"face_rate": 0.1}}, "No verdict: the detector is sure of a face in 10% of the real images"),
    ],
)
def test_every_fault_has_its_words(figures, said):
    text = " ".join(verdict(report_of(**figures)))
    assert re.match(said, text), text


def test_a_perfect_face_rate_alone_impresses_nobody():
    said = verdict(report_of(diversity_pixels=0.02, diversity_features=0.03, coverage=0.0))
    assert said[0].startswith("Collapsed") and not any("Fréchet" in sentence for sentence in said)


def test_nothing_is_said_twice():
    said = verdict(report_of(coverage=0.1))
    assert said[0].startswith("Far from real images: 10% of") and not any(text.startswith("10% of") for text in said)


def test_few_samples_come_first_unless_they_show_enough():
    assert verdict(report_of(50))[0].startswith("Too few samples: distances of 50")
    assert verdict(report_of(50, diversity_pixels=0.1))[0].startswith("Collapsed")
    assert verdict(report_of(50, diversity_pixels=0.1))[-1].startswith("Too few samples")


def test_reals_that_repeat_themselves_excuse_samples_that_do():
    assert verdict(report_of(real={"copies": 0.2, "repeats": 0.2}, copies=0.2, repeats=0.2))[0].startswith("Good")


def test_figures_that_were_not_measured_are_not_spoken_of():
    report = report_of()
    for name in ("copies", "repeats", "individual_detail_64", "individual_detail_32", "top_octave_power"):
        del report[name]
    assert len(verdict(report)) == 1
