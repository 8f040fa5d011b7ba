"""A verdict in words, to be read before any figure. Pure functions of a report.

Whatever can be is compared with `real_against_real`: what other real images get in the samples' place.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

Report = Mapping[str, Any]

# Two sets of real portraits are 0.2 apart by the detector's Fréchet distance with 20 images each, 0.06 with 100, 0.02
# with 300. Below 100 most of a good generator's distance is chance.
FEW = 100
FACES = 0.5  # of the real images' face_rate: blobs become faces there
ALIKE = 0.3  # diversity; real images have 1, and TensorBoard's alarm sounds at the same value
MOST = 0.5  # of the samples
OFTEN = 0.05  # of the samples; of 600 different portraits none was taken for a copy or a repetition
FAR = 0.5  # of the real images' coverage: with less, whole kinds of faces are missing
# Of the real images' individual detail, in the octave that has least. Generators with 0.06 to 0.14 show one inner face
# in all. Smooth but different faces had 0.35, so the shared part has to be larger than in real images as well.
OWN_DETAIL = 0.5
BURNT_IN = 0.15
# Generators that a person found good at first sight had 0.85 to 0.93 of the real images' coverage, and a Fréchet
# distance 0.09 to 0.13 above theirs. The difference counts: what is due to the number of images is in both.
GOOD_COVERAGE = 0.8
GOOD_EXCESS = 0.1
GOOD_FACES = 0.95
GOOD_RANGE = (0.8, 1.25)  # of diversity, and of power at the highest frequencies
# Of the way from what shuffled captions get to what real images get, by caption_rank.
STEERED, HARDLY_STEERED = 0.75, 0.25
TELLS = 0.05  # with less between the two, the judge cannot tell
SMOOTH_WALK = 3.0  # largest step over the median step

Fault = Callable[[Report], str]  # a sentence; empty where there is nothing to say


def verdict(report: Report) -> list[str]:
    """Short sentences: the first is the verdict, and begins with its name and a colon; then what else is to be said.

    Args:
        report: figures, `real_against_real` and `counts`. A figure that it lacks is not spoken of.
    """
    great = {name: sentence for name, fault in GREAT_FAULTS.items() if (sentence := fault(report))}
    small = [sentence for fault in SMALL_FAULTS if (sentence := fault(report)) and sentence not in great.values()]
    if great:
        name, sentence = next(iter(great.items()))
        others = [other for other in great if other != name and (name not in HOPELESS or other in HOPELESS)]
        said = [f"{name}: {sentence[0].lower()}{sentence[1:]}", *(great[other] for other in others)]
        said += [] if name in HOPELESS else small
    elif small:
        name, said = "Fair", ["Fair: different faces, but not yet like real ones.", *small]
    else:
        name, said = "Good", ["Good: faces as varied as real ones, and close to them."]
    if few := too_few(report):
        said = [*said, few] if name in SEEN_IN_FEW else [few, *said]
    words = report.get("words")
    return said if words is None else [*said, steering(words)]


def steering(words: Report) -> str:
    """What to say of words, by figures of the captions' judge, with `real_against_real`."""
    ours, chance = words["caption_rank"], words["caption_rank_shuffled"]
    real, real_chance = (words["real_against_real"][name] for name in ("caption_rank", "caption_rank_shuffled"))
    if real - real_chance < TELLS:
        return (
            f"Whether words steer the samples cannot be told: real images get {real:.2f}, by chance {real_chance:.2f}."
        )
    way = (ours - chance) / (real - chance)
    how = "steer" if way >= STEERED else "hardly steer" if way < HARDLY_STEERED else "partly steer"
    return (
        f"Words {how} the samples: their own caption fits better than {percent(ours)} of others (real images: "
        f"{percent(real)}, by chance: {percent(chance)})."
    )


def too_few(report: Report) -> str:
    """What to say of distances that few images were compared for."""
    n = report["counts"]["compared_images_a_set"]
    lack = "more samples" if report["counts"]["samples"] == n else "more real images"
    few = f"Too few samples: distances of {n} images are mostly chance. Take {lack}, 300 or more."
    return few if n < FEW else ""


def unseen(report: Report) -> str:
    _, real = both(report, "face_rate")
    seen = f"The detector is sure of a face in {percent(real)} of the real images."
    return f"{seen} They are too small for it, or not aligned face crops." if real < FACES else ""


def not_faces(report: Report) -> str:
    ours, real = both(report, "face_rate")
    return f"Not faces yet. {unsure(report)}" if ours < FACES * real else ""


def unsure(report: Report) -> str:
    ours, real = both(report, "face_rate")
    said = f"The detector is sure of a face in {percent(ours)} of the samples (real images: {percent(real)})."
    return said if ours < GOOD_FACES * real else ""


def collapsed(report: Report) -> str:
    least, (ours, real) = min(diversities(report)), both(report, "repeats")
    if least < ALIKE:
        return f"The samples are nearly all alike. Their diversity is {least:.2f}; that of real images is 1."
    return repeating(report) if ours > MOST + real else ""


def repeating(report: Report) -> str:
    ours, real = both(report, "repeats")
    said = f"{percent(ours)} of the samples nearly repeat another sample (real images: {percent(real)})."
    return said if ours > OFTEN + real else ""


def copying(report: Report) -> str:
    ours, real = both(report, "copies")
    said = f"{percent(ours)} of the samples are nearly real images. Look at the nearest ones."
    return said if ours > OFTEN + real else ""


def far(report: Report) -> str:
    ours, real = both(report, "coverage")
    return uncovered(report) if ours < FAR * real else ""


def uncovered(report: Report) -> str:
    ours, real = both(report, "coverage")
    said = f"{percent(ours)} of the real images have a sample nearby (with other real images: {percent(real)})."
    return said if ours < GOOD_COVERAGE * real else ""


def one_face(report: Report) -> str:
    side, detail = least_detail(report)
    ours, real = both(report, f"shared_part_{side}")
    said = (
        f"Eyes, nose and mouth hardly differ. At {side} px their individual detail is {detail:.2f} of the real "
        f"images', and {percent(ours)} of their detail is the same in all (real images: {percent(real)})."
    )
    return said if detail < OWN_DETAIL and ours > real + BURNT_IN else ""


def little_detail(report: Report) -> str:
    side, detail = least_detail(report)
    said = f"Eyes, nose and mouth lack detail: {detail:.2f} of the real images' at {side} px."
    return said if detail < OWN_DETAIL and not one_face(report) else ""


def least_detail(report: Report) -> tuple[int, float]:
    """Side of the octave with the least individual detail, and how much that is; NaN where none was measured."""
    prefix = "individual_detail_"
    found = [(value, int(name.removeprefix(prefix))) for name, value in report.items() if name.startswith(prefix)]
    detail, side = min(found, default=(math.nan, 0))
    return side, detail


def other_variety(report: Report) -> str:
    pixels, features = diversities(report)
    word = "less" if min(pixels, features) < GOOD_RANGE[0] else "more"
    said = f"They vary {word} than real images: diversity {pixels:.2f} in pixels, {features:.2f} in features."
    return said if word == "less" or max(pixels, features) > GOOD_RANGE[1] else ""


def distant(report: Report) -> str:
    ours, real = both(report, "frechet_detector")
    return f"The Fréchet distance is {ours:.2f} (real images: {real:.2f})." if ours > real + GOOD_EXCESS else ""


def other_power(report: Report) -> str:
    ours, _ = both(report, "top_octave_power")
    word = "smooth" if ours < GOOD_RANGE[0] else "rough"
    said = f"Too {word}: the highest frequencies have {ours:.2f} times the real images' power."
    return said if word == "smooth" or ours > GOOD_RANGE[1] else ""


def jumping(report: Report) -> str:
    ours, _ = both(report, "walk_largest_step")
    return f"Walks between faces jump: their largest step is {ours:.1f} median steps." if ours > SMOOTH_WALK else ""


def both(report: Report, name: str) -> tuple[float, float]:
    """A figure of the samples and of real images; NaN, of which no comparison holds, where it was not measured."""
    return report.get(name, math.nan), report["real_against_real"].get(name, math.nan)


def diversities(report: Report) -> tuple[float, float]:
    return report["diversity_pixels"], report["diversity_features"]


def percent(share: float) -> str:
    return f"{share:.0%}"


# By the verdict's name, the worst first.
GREAT_FAULTS: dict[str, Fault] = {
    "No verdict": unseen,
    "Still learning": not_faces,
    "Collapsed": collapsed,
    "Copying": copying,
    "Far from real images": far,
    "One face in all": one_face,
}
HOPELESS = ("No verdict", "Still learning", "Collapsed")  # beside these no other fault is worth a word
SEEN_IN_FEW = (*HOPELESS, "Copying")
SMALL_FAULTS = (unsure, other_variety, repeating, uncovered, distant, little_detail, other_power, jumping)
