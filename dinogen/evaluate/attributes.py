"""Attributes that prompts ask for: a file of them, which real images have them, and whether samples do as asked."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from dinogen.errors import UsageError
from dinogen.evaluate import metrics
from dinogen.evaluate.captions import FITTED
from dinogen.evaluate.judge import FEWEST, ImageSet, relative_diversity
from dinogen.evaluate.ridge import Ridge
from dinogen.evaluate.views import METHOD as VIEW_METHOD
from dinogen.evaluate.views import View

WORD = re.compile(r"\w+")
NAME = re.compile(r"[A-Za-z0-9_-]+")
TEXTS, LISTS = ("prompt", "other"), ("positive", "negative")
EXAMPLE = (
    "{prompt: a person with glasses, other: a person without glasses, positive: [glasses], negative: [no glasses]}"
)
METHOD = (
    f"linear classifier (least squares with a penalty, both sides count alike) on {VIEW_METHOD}, fitted to real images "
    "that captions say have the attribute or not; real: on real images by fits without them; chance is 0.5"
)


@dataclass(frozen=True)
class Attribute:
    """Something that an image shows or does not show, and how captions say so.

    Args:
        name: ends the figures' names.
        prompt: asks for it.
        other: asks for the contrary.
        positive: words or phrases by which a caption says that it is there.
        negative: those by which one says that it is not. They overrule the positive ones: "no glasses" holds
            "glasses". Without any, it is not there where a caption does not speak of it.
    """

    name: str
    prompt: str
    other: str
    positive: tuple[str, ...]
    negative: tuple[str, ...] = ()

    def shown(self, captions: Sequence[str]) -> bool | None:
        """Whether an image with these captions shows it; None where they do not say."""
        texts = [_words(text) for text in captions]
        if any(_words(phrase) in text for phrase in self.negative for text in texts):
            return False
        if any(_words(phrase) in text for phrase in self.positive for text in texts):
            return True
        return None if self.negative or not texts else False

    def sides(self, captions: Sequence[Sequence[str]]) -> dict[str, list[int]]:
        """Numbers of the real images that show it, by its prompt, and of those that do not, by the other one.

        Args:
            captions: all captions of each real image; the first 2,000 images whose captions say either count.

        Raises:
            UsageError: too few show it, or do not.
        """
        said = [(row, shown) for row, its in enumerate(captions) if (shown := self.shown(its)) is not None][:FITTED]
        found = {}
        for prompt, key, value in ((self.prompt, "positive", True), (self.other, "negative", False)):
            found[prompt] = [row for row, shown in said if shown is value]
            if len(found[prompt]) < 2 * FEWEST:
                raise UsageError(
                    f"--attributes: {self.name}.{key}: the captions of {len(found[prompt])} of {len(captions)} real "
                    f"images say so, too few to judge by; name words of {2 * FEWEST} images or more"
                )
        return found


def _words(text: str) -> str:
    """Lower-case words between single spaces, with one at both ends: whole words alone are found in it."""
    return f" {' '.join(WORD.findall(text.casefold()))} "


def read_attributes(path: Path) -> list[Attribute]:
    """Read attributes from YAML or JSON: names, each with `prompt`, `other`, `positive` and perhaps `negative`.

    Raises:
        UsageError: it cannot be read, or one of its keys is missing, unknown or of the wrong kind.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UsageError(f"--attributes {path}: cannot be read ({reason})") from error
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"--attributes {path}: not YAML or JSON ({reason})") from error
    if not isinstance(content, dict) or not content:
        raise UsageError(f"--attributes {path}: no attributes; write a line for each, such as glasses: {EXAMPLE}")
    return [_attribute(path, name, values) for name, values in content.items()]


def _attribute(path: Path, name: object, values: object) -> Attribute:
    """One of a file's attributes."""

    def refuse(key: str, what: str) -> UsageError:
        return UsageError(f"--attributes {path}: {name}{key} {what}")

    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise refuse("", "is not a name; take letters, digits, - and _, and quotes around words such as no")
    if not isinstance(values, dict):
        raise refuse("", f"needs keys and values, such as {EXAMPLE}")
    for key in values:
        if key not in TEXTS + LISTS:
            raise refuse(f".{key}", f"is not known; the keys are {', '.join(TEXTS + LISTS)}")
    for key in TEXTS:
        if not isinstance(values.get(key), str) or not values[key].strip():
            raise refuse(f".{key}", "must be a text: a prompt to draw with")
    found = {}
    for key in LISTS:
        phrases = values.get(key, [])
        if not isinstance(phrases, list) or not all(isinstance(text, str) and WORD.search(text) for text in phrases):
            raise refuse(f".{key}", "must be a list of texts, such as [glasses, spectacles]")
        found[key] = tuple(phrases)
    if values["other"].split() == values["prompt"].split():
        raise refuse(".other", "must be another text than its prompt")
    if not found["positive"]:
        raise refuse(".positive", "is missing: the words by which captions say that it is there")
    return Attribute(name, " ".join(values["prompt"].split()), " ".join(values["other"].split()), **found)


@dataclass(frozen=True)
class Classifier:
    """Tells images that show an attribute from others.

    Args:
        attribute: which.
        view: of images.
        ridge: from views to 1 (shown) or -1 (not).
        having: the real images that show it, by its prompt, and those that do not, by the other one.
        right: share of each that is classified rightly by a fit without them.
    """

    attribute: Attribute
    view: View
    ridge: Ridge
    having: Mapping[str, ImageSet]
    right: Mapping[str, float]

    @classmethod
    def fit(cls, attribute: Attribute, reals: ImageSet, captions: Sequence[Sequence[str]]) -> "Classifier":
        """Fit it to real images, by all captions of each.

        Raises:
            UsageError: see `Attribute.sides`.
        """
        sides = attribute.sides(captions)
        view = View.of(reals)
        shown = torch.tensor([prompt == attribute.prompt for prompt, rows in sides.items() for _ in rows])
        weights = torch.where(shown, 0.5 / shown.double().mean(), 0.5 / (~shown).double().mean())
        seen = view(reals.rows([row for rows in sides.values() for row in rows]))
        ridge = Ridge.fit(seen, shown.double()[:, None] * 2 - 1, weights)
        positive = ridge.held_out[:, 0] > 0
        right = {
            attribute.prompt: positive[shown].double().mean().item(),
            attribute.other: (~positive[~shown]).double().mean().item(),
        }
        return cls(attribute, view, ridge, {prompt: reals.rows(rows) for prompt, rows in sides.items()}, right)

    @property
    def ceiling(self) -> str:
        """How often it is right, in a sentence."""
        each = (f"{self.right[prompt]:.0%} of {len(its.pixels)} '{prompt}'" for prompt, its in self.having.items())
        return f"{self.attribute.name}: of real images it was not fitted to, the classifier knows {', '.join(each)}."

    def obeys(self, images: ImageSet, prompt: str) -> Tensor:
        """1 for each image that shows what the prompt asks for, else 0, float64 `[n]`."""
        positive = self.ridge(self.view(images))[:, 0] > 0
        return (positive if prompt == self.attribute.prompt else ~positive).double()


def obedience(classifier: Classifier, samples: Mapping[str, ImageSet]) -> tuple[dict[str, Any], dict[str, Any]]:
    """`obeys_NAME`, `diversity_NAME` and `coverage_NAME`, each by prompt, of samples and of real images.

    Args:
        classifier: of the attribute.
        samples: drawn with each of its two prompts.
    """
    ours: dict[str, dict[str, float]] = {"obeys": {}, "diversity": {}, "coverage": {}}
    real: dict[str, dict[str, float]] = {"obeys": dict(classifier.right), "diversity": {}, "coverage": {}}
    for prompt, images in samples.items():
        having = classifier.having[prompt]
        n = min(len(images.pixels), len(having.pixels) // 2)
        reference, others = having.part(0, n).detected, having.part(n, 2 * n).detected
        ours["obeys"][prompt] = classifier.obeys(images, prompt).mean().item()
        for found, rows in ((ours, images.part(0, n).detected), (real, others)):
            found["diversity"][prompt] = relative_diversity(rows, reference)
            found["coverage"][prompt] = metrics.fidelity_and_variety(rows, reference)["coverage"]
    name = classifier.attribute.name
    return {f"{key}_{name}": value for key, value in ours.items()}, {f"{k}_{name}": v for k, v in real.items()}
