"""Pictures that say what no figure says."""

from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from dinogen.evaluate.judge import Judgement
from dinogen.images import image_grid, viewing_scale
from dinogen.networks import Generator
from dinogen.sample import interpolation_strip, sample_images, style_mixing

SAMPLES_SHOWN = 40
REALS_SHOWN = 16
COLUMNS = 8
PAIRS_SHOWN = 32
WALKS_SHOWN = 4
FACES_IN_SWEEP = 6
MIXED_ROWS, MIXED_COLUMNS = 3, 7
PSI_SWEEP = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass
class Pictures:
    """Pictures of one generator.

    Args:
        samples: the first ones, none picked.
        reals: for comparison, at the same resolution.
        nearest: pairs of a sample and the real nearest to it, the closest pair first.
        walks: straight walks between styles, one a row.
        sweep: a face a column, a truncation a row, from the average face to all variety.
        mixing: coarse styles of the first column's faces, finer ones of the first row's.
    """

    samples: Image.Image
    reals: Image.Image
    nearest: Image.Image
    walks: Image.Image
    sweep: Image.Image
    mixing: Image.Image


def draw_pictures(generator: Generator, samples: Tensor, reals: Tensor, judgement: Judgement, seed: int) -> Pictures:
    """Draw all pictures of a generator.

    Args:
        generator: draws the walks, the sweep and the mixed styles.
        samples: uint8 `[n, 3, R, R]`, the ones that were judged.
        reals: uint8 `[m, 3, R, R]`.
        judgement: of these samples by these reals.
        seed: of what the generator draws.
    """
    scale = viewing_scale(samples.shape[-1])
    sweep = torch.cat([sample_images(generator, FACES_IN_SWEEP, seed, psi) for psi in PSI_SWEEP])
    return Pictures(
        samples=image_grid(samples[:SAMPLES_SHOWN], COLUMNS, scale),
        reals=image_grid(reals[:REALS_SHOWN], COLUMNS, scale),
        nearest=image_grid(nearest_pairs(samples, reals, judgement), COLUMNS, scale),
        walks=image_grid(interpolation_strip(generator, WALKS_SHOWN, COLUMNS, seed), COLUMNS, scale),
        sweep=image_grid(sweep, FACES_IN_SWEEP, scale),
        mixing=image_grid(style_mixing(generator, MIXED_ROWS, MIXED_COLUMNS, seed), MIXED_COLUMNS + 1, scale),
    )


def nearest_pairs(samples: Tensor, reals: Tensor, judgement: Judgement) -> Tensor:
    """Sample, its nearest real, next sample, its nearest real …: uint8 `[2 · pairs, 3, R, R]`, closest pair first."""
    closest = judgement.nearest_distance.argsort()[:PAIRS_SHOWN]
    return torch.stack([samples[closest], reals[judgement.nearest_row[closest]]], dim=1).flatten(0, 1)
