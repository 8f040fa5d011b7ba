"""Whether words steer a generator: all figures of the section "Words" of a report."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dinogen.errors import DinogenError
from dinogen.evaluate import bootstrap
from dinogen.evaluate.attributes import Attribute, Classifier, obedience
from dinogen.evaluate.captions import CaptionJudge, Texts, joint_distance
from dinogen.evaluate.extractors import ClipFeatures
from dinogen.evaluate.judge import ImageSet
from dinogen.text import CaptionTable, make_text_encoder

JOINT_METHOD = "detector features joined with caption vectors as long as they are on average (arXiv 1907.08175)"
CLIP_METHOD = "mean cosine between CLIP's embeddings of image and caption"


@dataclass(frozen=True)
class Told:
    """Images and what they are to show.

    Args:
        images: n or more.
        texts: a caption for each; None where it has none.
    """

    images: ImageSet
    texts: Texts

    def part(self, first: int, end: int) -> "Told":
        """Images `first` to `end - 1`."""
        return Told(self.images.part(first, end), self.texts[first:end])

    def shuffled(self) -> "Told":
        """The same images with each other's captions."""
        order = torch.randperm(len(self.texts), generator=torch.Generator().manual_seed(0)).tolist()
        return Told(self.images, [self.texts[place] for place in order])


def texts_of_samples(texts: Texts, n: int, count: int) -> list[str | None]:
    """Captions to draw samples with: those of the other real images, which stand in the samples' place.

    So both are compared with the reference by equal captions.

    Args:
        texts: a caption for each real image: n of the reference, then n others, then perhaps more.
        n: compared images a set.
        count: samples.
    """
    return [texts[(n + number) % len(texts)] for number in range(count)]


def words_report(
    samples: Told, reals: Told, captions: Sequence[Sequence[str]], n: int, clip: CaptionTable | None
) -> tuple[dict[str, Any], dict[str, str]] | None:
    """Figures on captions.

    Args:
        samples: n or more.
        reals: n of the reference, then n others, then perhaps more.
        captions: all captions of each real image.
        n: compared images a set.
        clip: reads captions for the CLIP score; None leaves it out.

    Returns:
        Figures with `intervals` and `real_against_real`, and how they were measured: plain values for JSON. None where
        too few real images have captions, or all have the same.
    """
    judge = CaptionJudge.fit(reals.images, captions)
    others, reference = reals.part(n, 2 * n), reals.part(0, n)
    if judge is None or not any(others.texts) or not any(samples.texts):
        return None
    ours, votes = judge.figures(samples.images, samples.texts)
    real, _ = judge.judged(judge.reals[n : 2 * n], others.texts)
    intervals = {name: bootstrap.mean_interval(values) for name, values in votes.items()}
    method = {"captions": judge.method, "joint_distance": JOINT_METHOD}
    of_reference = judge.reader(reference.texts)
    for found, told in ((ours, samples.part(0, n)), (real, others)):
        for suffix, its in (("", told), ("_shuffled", told.shuffled())):
            found[f"frechet_joint{suffix}"] = joint_distance(
                its.images.detected, judge.reader(its.texts), reference.images.detected, of_reference
            )
    if clip is not None:
        for found, told in ((ours, samples), (real, others)):
            for suffix, its in (("", told), ("_shuffled", told.shuffled())):
                scores = clip_scores(its, clip)
                found[f"clip_score{suffix}"] = scores.mean().item()
                if found is ours and not suffix:
                    intervals["clip_score"] = bootstrap.mean_interval(scores)
        method["clip_score"] = CLIP_METHOD
    return {"different_captions": len(judge.texts), **ours, "intervals": intervals, "real_against_real": real}, method


def clip_scores(told: Told, clip: CaptionTable) -> Tensor:
    """Cosine between CLIP's embeddings of each image that has a caption and of that, float64 `[n]`."""
    rows = [row for row, text in enumerate(told.texts) if text]
    vectors = clip.pooled([told.texts[row] for row in rows]).double().cpu()
    return F.cosine_similarity(told.images.features[ClipFeatures.name][rows], vectors)


def open_clip_texts(model: str, device: torch.device) -> CaptionTable | None:
    """The half of a CLIP that reads, see `ClipFeatures` for the other; None, with a line that says so, without one."""
    try:
        return CaptionTable(make_text_encoder(model, "--clip").to(device))
    except DinogenError as error:
        print(f"The report goes without a CLIP score: {error}", file=sys.stderr)
        return None


def attribute_report(
    attributes: Sequence[Attribute],
    reals: ImageSet,
    captions: Sequence[Sequence[str]],
    draw: Callable[[str, float], ImageSet],
    guidance: float = 1.0,
    sweep: Sequence[float] = (),
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Tensor]]:
    """Figures on attributes that prompts ask for. How well real images are classified is printed before any is drawn.

    Args:
        attributes: to ask for.
        reals: m images.
        captions: all captions of each.
        draw: samples for a prompt, with guidance.
        guidance: of the figures.
        sweep: other guidance to draw with, for `by_guidance`: obedience and diversity, the mean of all prompts.

    Returns:
        Figures of samples and of real images, see `obedience`; and samples by prompt, uint8 `[n, 3, R, R]`.

    Raises:
        UsageError: see `Attribute.sides`.
    """
    classifiers = [Classifier.fit(attribute, reals, captions) for attribute in attributes]
    for classifier in classifiers:
        print(classifier.ceiling, file=sys.stderr)
    ours, real, drawn = ask(classifiers, draw, guidance)
    if sweep:
        ours["by_guidance"] = []
        for alpha in sweep:
            found = ours if alpha == guidance else ask(classifiers, draw, alpha)[0]
            means = {key: mean_of_prompts(found, f"{key}_", attributes) for key in ("obeys", "diversity")}
            ours["by_guidance"].append({"guidance": alpha, **means})
    return ours, real, drawn


def ask(
    classifiers: Sequence[Classifier], draw: Callable[[str, float], ImageSet], guidance: float
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Tensor]]:
    """What `attribute_report` returns, for one guidance. A prompt of several attributes is drawn once."""
    ours: dict[str, Any] = {}
    real: dict[str, Any] = {}
    drawn: dict[str, ImageSet] = {}
    for classifier in classifiers:
        drawn |= {prompt: draw(prompt, guidance) for prompt in classifier.right if prompt not in drawn}
        found = obedience(classifier, {prompt: drawn[prompt] for prompt in classifier.right})
        ours, real = ours | found[0], real | found[1]
    return ours, real, {prompt: images.pixels for prompt, images in drawn.items()}


def mean_of_prompts(figures: Mapping[str, Any], key: str, attributes: Sequence[Attribute]) -> float:
    """The mean of a figure over all prompts of all attributes."""
    values = [value for attribute in attributes for value in figures[key + attribute.name].values()]
    return sum(values) / len(values)
