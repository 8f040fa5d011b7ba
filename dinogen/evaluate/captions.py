"""Does an image show what its caption says? Judged by networks and by a text encoder that training did not use."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from dinogen.errors import DinogenError
from dinogen.evaluate import metrics
from dinogen.evaluate.judge import FEWEST, ImageSet
from dinogen.evaluate.ridge import Ridge
from dinogen.evaluate.views import METHOD as VIEW_METHOD
from dinogen.evaluate.views import View
from dinogen.text import CaptionTable, Whitening, tidied
from dinogen.text.embedded import Embedded

CANDIDATES = 100
SHUFFLES = 10  # whose figures are averaged: what captions of other images get
FITTED = 2_000  # images: a fit to more takes minutes

Texts = Sequence[str | None]  # a caption for each image; None where it has none


@dataclass(frozen=True)
class Hits:
    """How well each of n images fits its own caption, among others.

    Args:
        first: `[n]`, 1 where no other caption fits better, else 0; their mean is R-precision (arXiv 1711.10485).
        rank: `[n]`, share of the other captions that fit worse; a half by chance.
    """

    first: Tensor
    rank: Tensor


class CaptionJudge:
    """Knows which caption belongs to an image: a linear map from images to caption vectors, fitted to real ones.

    Captions are read by the embedded encoder, whatever encoder the model was trained with: so all models are judged by
    the same one. Its vectors are whitened over the data. A real image is mapped to the mean vector of all its captions.

    Args:
        view: of images.
        ridge: from views to vectors.
        reals: vectors `[m, k]` that the real images are mapped to by maps that are fitted without them.
        reader: of captions.
        texts: all different captions of the data.
    """

    def __init__(self, view: View, ridge: Ridge, reals: Tensor, reader: "CaptionReader", texts: Sequence[str]):
        self.view, self.ridge, self.reals, self.reader = view, ridge, reals, reader
        self.texts = {text: number for number, text in enumerate(texts)}
        self.vectors = reader(texts)

    @classmethod
    def fit(cls, reals: ImageSet, captions: Sequence[Sequence[str]]) -> Self | None:
        """Fit it to real images and all captions of each; None where there are not enough of them."""
        tidy = [[tidied(text) for text in its] for its in captions]
        texts = list(dict.fromkeys(text for its in tidy for text in its))
        captioned = [row for row, its in enumerate(tidy) if its]
        if len(captioned) < 2 * FEWEST:
            return None
        try:
            reader = CaptionReader.of([text for its in tidy for text in its])
        except DinogenError:  # all captions are one
            return None
        view, rows = View.of(reals), torch.tensor(captioned[:FITTED])
        seen = view(reals)
        ridge = Ridge.fit(seen[rows], torch.stack([reader(tidy[row]).mean(dim=0) for row in rows.tolist()]))
        mapped = ridge(seen)
        mapped[rows] = ridge.held_out
        return cls(view, ridge, mapped, reader, texts)

    @property
    def method(self) -> str:
        """What it does, in words."""
        others = min(CANDIDATES, len(self.texts))
        whole = "all different ones" if others == len(self.texts) else "one its own, the others drawn from the data"
        return (
            f"which of {others} captions ({whole}) is nearest by cosine to where a ridge regression maps the image: "
            f"from {VIEW_METHOD}, to whitened vectors of the embedded text encoder, fitted to real images, penalty "
            f"{self.ridge.penalty:g}; real images by fits without them; shuffled: with captions of other images"
        )

    def figures(self, images: ImageSet, captions: Texts) -> tuple[dict[str, float], dict[str, Tensor]]:
        """`r_precision` and `caption_rank` of samples, with and without shuffling, and what each image says of them."""
        return self.judged(self.ridge(self.view(images)), captions)

    def judged(self, mapped: Tensor, captions: Texts) -> tuple[dict[str, float], dict[str, Tensor]]:
        """`figures` of images that are mapped already, `[n, k]`. At least one has a caption."""
        rows = [row for row, text in enumerate(captions) if text]
        own = torch.tensor([self.texts[tidied(captions[row] or "")] for row in rows])
        fits = mapped[rows] @ self.vectors.T
        rng = torch.Generator().manual_seed(0)
        candidates = torch.stack([torch.randperm(len(self.texts), generator=rng)[:CANDIDATES] for _ in rows])
        hits = hits_among(fits, own, candidates)
        orders = [torch.randperm(len(rows), generator=rng) for _ in range(SHUFFLES)]
        chance = [hits_among(fits, own[order], candidates) for order in orders]
        votes = {"r_precision": hits.first, "caption_rank": hits.rank}
        figures = {name: values.mean().item() for name, values in votes.items()}
        figures["r_precision_shuffled"] = torch.stack([some.first for some in chance]).mean().item()
        figures["caption_rank_shuffled"] = torch.stack([some.rank for some in chance]).mean().item()
        return figures, votes


class CaptionReader:
    """Reads captions with the embedded encoder and whitens what it makes of them.

    Args:
        whitening: of its vectors.
        table: of its vectors.
    """

    def __init__(self, whitening: Whitening, table: CaptionTable):
        self.whitening, self.table = whitening, table

    @classmethod
    def of(cls, captions: Texts) -> Self:
        """Fit the whitening to captions.

        Raises:
            DinogenError: no two are different.
        """
        table = CaptionTable(Embedded())
        return cls(Whitening.fit(table.pooled(captions)), table)

    def __call__(self, captions: Texts) -> Tensor:
        """float64 `[n, k]`, of length one; zeros where there is no caption."""
        return self.whitening(self.table.pooled(captions)).double()


def hits_among(fits: Tensor, own: Tensor, candidates: Tensor) -> Hits:
    """Compare own captions with some others.

    Args:
        fits: `[n, t]`, how well each image fits each caption.
        own: `[n]`, the number of each image's own caption.
        candidates: `[n, c]`, different captions; with or without the own one. Of these, c - 1 others are taken.
    """
    others = candidates != own[:, None]
    others[:, -1] &= ~others.all(dim=1)
    mine, theirs = fits.gather(1, own[:, None]), fits.gather(1, candidates)
    worse = torch.where(others, (theirs < mine).double() + 0.5 * (theirs == mine).double(), 0.0).sum(dim=1)
    best = ((theirs < mine) | ~others).all(dim=1)
    return Hits(best.double(), worse / others.sum(dim=1))


def joint_distance(a: Tensor, of_a: Tensor, b: Tensor, of_b: Tensor) -> float:
    """Fréchet distance of images joined with their captions (arXiv 1907.08175).

    Args:
        a: features `[n, d]`.
        of_a: vectors `[n, k]` of their captions.
        b: features `[n, d]` of the reference: it says how captions are weighted, so that they are as long as features.
        of_b: vectors of its captions.
    """
    weight = b.norm(dim=1).mean() / of_b.norm(dim=1).mean().clamp(min=1e-12)
    return metrics.frechet_distance(torch.cat([a, weight * of_a], dim=1), torch.cat([b, weight * of_b], dim=1))
