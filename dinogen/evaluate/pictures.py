"""Pictures that say what no figure says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from dinogen.evaluate.nearest import Nearest
from dinogen.images import enlarge, image_grid, stack, titled, to_pil, viewing_scale
from dinogen.networks import Generator
from dinogen.sample import WordsOf, interpolation_strip, sample_images, style_mixing

SAMPLES_SHOWN = 40
REALS_SHOWN = 16
COLUMNS = 8
SAMPLES_COMPARED = 24
TOLD_SHOWN = 12
PAIRS_SHOWN = 8  # for each way of seeing
WALKS_SHOWN = 4
FACES_IN_SWEEP = 6
MIXED_ROWS, MIXED_COLUMNS = 3, 7
PSI_SWEEP = (0.0, 0.25, 0.5, 0.75, 1.0)
MEAN_SIZE = 256  # pixels
WAYS = {"detector": "By the detector", "pixels": "In pixels", "teacher": "By the teacher"}


@dataclass
class Pictures:
    """Pictures of one generator.

    Args:
        first: the first samples themselves, uint8 `[n, 3, R, R]`, to be shown beside another generator's.
        samples: the same as a picture, none picked.
        reals: for comparison, at the same resolution.
        mean: the mean of all samples and that of real images. Sharp features in the first are in all samples.
        nearest: pairs of a sample and the real image nearest to it, the closest ones, for each way of seeing.
        walks: straight walks between styles, one a row.
        sweep: a face a column, a truncation a row, from the average face to all variety.
        mixing: coarse styles of the first column's faces, finer ones of the first row's.
        told: samples with the captions that they were drawn with; none of a generator that takes no words.
        prompts: a row of samples for each of some prompts; None without prompts.
    """

    first: Tensor
    samples: Image.Image
    reals: Image.Image
    mean: Image.Image
    nearest: Image.Image
    walks: Image.Image
    sweep: Image.Image
    mixing: Image.Image
    told: Sequence[tuple[Image.Image, str]] = ()
    prompts: Image.Image | None = None


def draw_pictures(
    generator: Generator,
    samples: Tensor,
    reals: Tensor,
    nearest: Mapping[str, Nearest],
    seed: int,
    words: WordsOf | None = None,
) -> Pictures:
    """Draw all pictures of a generator.

    Args:
        generator: draws the walks, the sweep and the mixed styles.
        samples: uint8 `[n, 3, R, R]`, the ones that were judged.
        reals: uint8 `[m, 3, R, R]`.
        nearest: the nearest of these reals to each of these samples, or the first of them, by the way of seeing.
        seed: of what the generator draws.
        words: of the samples; None is none.
    """
    scale = viewing_scale(samples.shape[-1])
    sweep = torch.cat([sample_images(generator, FACES_IN_SWEEP, seed, psi, words=words) for psi in PSI_SWEEP])
    walks = interpolation_strip(generator, WALKS_SHOWN, COLUMNS, seed, words=words)
    mixed = range(MIXED_ROWS), range(MIXED_ROWS, MIXED_ROWS + MIXED_COLUMNS)
    mixing = style_mixing(generator, *mixed, seed, words=words)
    return Pictures(
        first=samples[:SAMPLES_COMPARED],
        samples=image_grid(samples[:SAMPLES_SHOWN], COLUMNS, scale),
        reals=image_grid(reals[:REALS_SHOWN], COLUMNS, scale),
        mean=mean_picture(samples, reals),
        nearest=stack({WAYS[name]: nearest_pairs(samples, reals, near) for name, near in nearest.items()}),
        walks=image_grid(walks, COLUMNS, scale),
        sweep=image_grid(sweep, FACES_IN_SWEEP, scale),
        mixing=image_grid(mixing, MIXED_COLUMNS + 1, scale),
    )


def nearest_pairs(samples: Tensor, reals: Tensor, nearest: Nearest) -> Image.Image:
    """Sample, its nearest real with their distance, next sample, its nearest real …: the closest pair first."""
    closest = nearest.distance.argsort()[:PAIRS_SHOWN]
    pairs = torch.stack([samples[closest], reals[nearest.row[closest]]], dim=1).flatten(0, 1)
    labels = [label for row in closest.tolist() for label in (f"sample {row}", f"real: {nearest.distance[row]:.2f}")]
    return image_grid(pairs, COLUMNS, viewing_scale(samples.shape[-1]), labels)


def mean_picture(samples: Tensor, reals: Tensor) -> Image.Image:
    """The mean of all samples beside the mean of all reals."""
    means = torch.stack([images.float().mean(dim=0).round().byte() for images in (samples, reals)])
    return image_grid(means, 2, viewing_scale(samples.shape[-1], MEAN_SIZE), ["samples", "real images"])


def told_pictures(samples: Tensor, texts: Sequence[str | None]) -> list[tuple[Image.Image, str]]:
    """The first samples with their captions."""
    scale = viewing_scale(samples.shape[-1])
    return [(to_pil(enlarge(sample[None], scale)[0]), text or "") for sample, text in zip(samples[:TOLD_SHOWN], texts)]


def prompts_picture(drawn: Mapping[str, Tensor]) -> Image.Image | None:
    """A row of samples for each prompt, uint8 `[n, 3, R, R]`; the same latents below each other."""
    some = [images[:COLUMNS] for images in drawn.values()]
    rows = [image_grid(images, COLUMNS, viewing_scale(images.shape[-1])) for images in some]
    return titled(rows, list(drawn)) if rows else None


def side_by_side(drawn: Sequence[Pictures]) -> Image.Image:
    """The first samples of several generators, of the same seed: those of the same number stand below each other."""
    rows = {}
    for start in range(0, len(drawn[0].first), COLUMNS):
        for number, pictures in enumerate(drawn, start=1):
            some = pictures.first[start : start + COLUMNS]
            title = f"[{number}]  samples {start} to {start + len(some) - 1}"
            rows[title] = image_grid(some, COLUMNS, viewing_scale(some.shape[-1]))
    return stack(rows)
