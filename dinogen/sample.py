"""Drawing with a trained generator: images from seeds, and walks between them."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from dinogen.errors import UsageError
from dinogen.images import to_uint8
from dinogen.networks import Generator, Words
from dinogen.networks.synthesis import block_resolutions
from dinogen.networks.words import words_between

BATCH_SIZE = 16

# Gives the words of some samples: the first one's number and their count, as `Reader.in_turn` does.
WordsOf = Callable[[int, int], Words]


def latents(seed: int, first: int, count: int, z_dim: int) -> Tensor:
    """Latents number `first` to `first + count - 1` of a seed, `[count, z_dim]`, standard normal, on the CPU.

    Each has a random generator of its own, so that it depends on the seed and its number alone.
    """
    return torch.stack([_latent(seed, index, z_dim) for index in range(first, first + count)])


def _latent(seed: int, index: int, z_dim: int) -> Tensor:
    # Neighbouring seeds of one generator can be alike; SeedSequence mixes seed and number, the same on every machine.
    state = int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0])
    return torch.randn(z_dim, generator=torch.Generator().manual_seed(state >> 1))


def describe_sample(
    generator: Generator, seed: int, truncation_psi: float, prompt: str | None = None, guidance: float = 1.0
) -> str:
    """What files keep of how a sample was drawn; its number stands in their names.

    Args:
        generator: that drew it.
        seed, truncation_psi: see `sample_images`.
        prompt: None where there is none.
        guidance: how far the prompt was exaggerated.
    """
    about = f"model {generator.fingerprint}, seed {seed}, truncation_psi {truncation_psi:g}"
    return about if prompt is None else f"{about}, guidance {guidance:g}, prompt: {prompt}"


@torch.no_grad()
def sample_images(
    generator: Generator,
    count: int,
    seed: int,
    truncation_psi: float = 1.0,
    batch_size: int = BATCH_SIZE,
    words: WordsOf | None = None,
) -> Tensor:
    """Draw samples 0 to `count - 1` of a seed.

    Sample i is a function of `(seed, i)` and its words: neither the count nor the other samples matter. Another
    `batch_size` or device may move a pixel by one grey level, because floating-point sums are then taken in another
    order.

    Args:
        generator: draws at its trained resolution R, on the device where it lies.
        count: number of images, 1 or more.
        seed: 0 or more.
        truncation_psi: 1 keeps all variety, 0 draws the average style.
        batch_size: images drawn at a time.
        words: gives the samples' captions; None gives none of them one.

    Returns:
        uint8 `[count, 3, R, R]` on the CPU.

    Raises:
        DinogenError: words for a generator that takes none.
    """
    return torch.cat(list(sample_batches(generator, count, seed, truncation_psi, batch_size, words)))


@torch.no_grad()
def sample_batches(
    generator: Generator,
    count: int,
    seed: int,
    truncation_psi: float = 1.0,
    batch_size: int = BATCH_SIZE,
    words: WordsOf | None = None,
) -> Iterator[Tensor]:
    """`sample_images` batch by batch, for more samples than memory holds."""
    for first in range(0, count, batch_size):
        # A short last batch is drawn whole as well: the sums of a convolution depend on the size of its batch.
        z = latents(seed, first, batch_size, generator.z_dim)
        wanted = min(batch_size, count - first)
        its = None if words is None else words(first, wanted)[torch.arange(batch_size).clamp(max=wanted - 1)]
        yield draw(generator, generator.style(z, truncation_psi, its), its)[:wanted]


def draw(generator: Generator, w: Tensor, words: Words | None = None) -> Tensor:
    """Styles `[n, w_dim]` to uint8 images `[n, 3, R, R]` on the CPU, R the trained resolution."""
    return to_uint8(generator.draw(w, words=words))


def draw_all(generator: Generator, w: Tensor, words: WordsOf | None = None) -> Tensor:
    """`draw` batch by batch, for more images than memory holds; `w` may have a style for each block."""
    parts = w.split(BATCH_SIZE)
    told = [None if words is None else words(number * BATCH_SIZE, len(part)) for number, part in enumerate(parts)]
    return torch.cat([draw(generator, part, its) for part, its in zip(parts, told)])


@torch.no_grad()
def interpolation_strip(
    generator: Generator,
    rows: int,
    frames: int,
    seed: int,
    truncation_psi: float = 1.0,
    words: WordsOf | None = None,
) -> Tensor:
    """Walks between pairs of faces, in straight lines from style to style.

    Straight lines between styles look better than arcs between latents: the mapping network has already unbent the
    space of faces (StyleGAN, arXiv 1812.04948, section 4.1).

    Args:
        generator: draws at its trained resolution R.
        rows: pairs; row r goes from sample 2r of the seed to sample 2r + 1.
        frames: images in a row, both ends included; 2 or more.
        seed: 0 or more.
        truncation_psi: 1 keeps all variety, 0 draws the average style.
        words: those of row r, all along it, are number r; None is none.

    Returns:
        uint8 `[rows · frames, 3, R, R]` on the CPU, row by row.
    """
    told = None if words is None else words(0, rows)
    twice = None if told is None else told[torch.arange(rows).repeat_interleave(2)]
    z = latents(seed, 0, 2 * rows, generator.z_dim)
    ends = generator.style(z, truncation_psi, twice).unflatten(0, (rows, 2))
    steps = torch.linspace(0, 1, frames, device=ends.device)[:, None]
    strips = []
    for row, (start, end) in enumerate(ends):
        own = None if told is None else told[torch.full((frames,), row)]
        strips.append(draw(generator, start.lerp(end, steps), own))
    return torch.cat(strips)


@torch.no_grad()
def interpolation_loop(
    generator: Generator, faces: int, frames: int, seed: int, truncation_psi: float = 1.0
) -> Iterator[Tensor]:
    """A walk through samples 0 to `faces - 1` of a seed and back to the first, at constant speed in style space.

    Args:
        generator: draws at its trained resolution R.
        faces: 2 or more.
        frames: images in the loop; the frame after the last would be the first again.
        seed: 0 or more.
        truncation_psi: 1 keeps all variety, 0 draws the average style.

    Yields:
        `frames` times uint8 `[3, R, R]` on the CPU.
    """
    corners = generator.style(latents(seed, 0, faces, generator.z_dim), truncation_psi)
    corners = torch.cat([corners, corners[:1]])
    lengths = (corners[1:] - corners[:-1]).norm(dim=1).cumsum(0)
    path = torch.cat([lengths.new_zeros(1), lengths]).cpu().numpy()
    # Faces lie unevenly far apart. Equal steps along the path keep a film from hurrying between two of them.
    walked = np.linspace(0, path[-1], frames, endpoint=False)
    positions = np.interp(walked, path, np.arange(faces + 1))
    for some in np.array_split(positions, -(-frames // BATCH_SIZE)):
        corner = torch.from_numpy(some).long().clamp(max=faces - 1)
        fraction = torch.from_numpy(some).float().sub(corner)[:, None].to(corners)
        yield from draw(generator, corners[corner].lerp(corners[corner + 1], fraction))


@torch.no_grad()
def word_strip(
    generator: Generator, start: Words, end: Words, rows: int, frames: int, seed: int, truncation_psi: float = 1.0
) -> Tensor:
    """Faces that stay the same while their words change, see `words_between`.

    Args:
        generator: draws at its trained resolution R.
        start: words of one image.
        end: other ones.
        rows: faces; row r shows sample r of the seed.
        frames: images in a row, both ends included; 2 or more.
        seed: 0 or more.
        truncation_psi: 1 keeps all variety, 0 draws the average style.

    Returns:
        uint8 `[rows · frames, 3, R, R]` on the CPU, row by row.
    """
    shares = torch.linspace(0, 1, frames)
    z = latents(seed, 0, rows, generator.z_dim)
    return torch.cat([draw_between(generator, one, start, end, shares, truncation_psi) for one in z])


@torch.no_grad()
def word_loop(
    generator: Generator, start: Words, end: Words, frames: int, seed: int, truncation_psi: float = 1.0
) -> Iterator[Tensor]:
    """Sample 0 of a seed while its words change and change back, slowly at both ends, so that each can be seen.

    Args:
        generator: draws at its trained resolution R.
        start: words of one image.
        end: other ones.
        frames: images in the loop; the frame after the last would be the first again.
        seed: 0 or more.
        truncation_psi: 1 keeps all variety, 0 draws the average style.

    Yields:
        `frames` times uint8 `[3, R, R]` on the CPU.
    """
    z = latents(seed, 0, 1, generator.z_dim)[0]
    shares = 0.5 - 0.5 * torch.cos(torch.arange(frames) * (2 * torch.pi / frames))
    for some in shares.split(BATCH_SIZE):
        yield from draw_between(generator, z, start, end, some, truncation_psi)


def draw_between(
    generator: Generator, z: Tensor, start: Words, end: Words, shares: Tensor, truncation_psi: float
) -> Tensor:
    """One latent `[z_dim]` with words at some shares `[n]` of the way: uint8 `[n, 3, R, R]` on the CPU."""
    every = torch.zeros(len(shares), dtype=torch.long)
    words = words_between(start[every], end[every], shares)
    return draw(generator, generator.style(z[None], truncation_psi, words), words)


@torch.no_grad()
def style_mixing(
    generator: Generator,
    coarse: Sequence[int],
    fine: Sequence[int],
    seed: int,
    truncation_psi: float = 1.0,
    words: WordsOf | None = None,
    up_to: int | None = None,
) -> Tensor:
    """A table of faces with the coarse blocks styled by one face and the finer ones by another (StyleGAN, arXiv
    1812.04948, section 3.1).

    Args:
        generator: draws at its trained resolution R.
        coarse: numbers of the seed's samples that style the coarse blocks, a row each; one or more.
        fine: numbers of those that style the finer ones, a column each; one or more.
        seed: 0 or more.
        truncation_psi: 1 keeps all variety, 0 draws the average style.
        words: of the rows' samples and then the columns', counted from 0; None is none. Where styles are mixed,
            features look at those of the coarse blocks.
        up_to: resolution of the last coarse block; None takes the coarse half of the blocks.

    Returns:
        uint8 `[(rows + 1) · (columns + 1), 3, R, R]` on the CPU, row by row. The first row and the first column show
        the faces themselves, and the corner is white.

    Raises:
        UsageError: no block of that resolution, or none is left beyond it.
    """
    resolutions = block_resolutions(generator.trained_resolution)
    if up_to is not None and up_to not in resolutions[:-1]:
        possible = ", ".join(map(str, resolutions[:-1])) or "none: it has one block only"
        raise UsageError(f"coarse styles up to {up_to}: this model can be mixed at {possible}")
    crossover = len(resolutions) // 2 if up_to is None else resolutions.index(up_to) + 1
    rows, columns = len(coarse), len(fine)
    z = torch.cat([latents(seed, number, 1, generator.z_dim) for number in (*coarse, *fine)])
    told = None if words is None else words(0, rows + columns)
    w = generator.style(z, truncation_psi, told)
    mixed = w[None, rows:, None].repeat(rows, 1, len(generator.synthesis.blocks), 1)
    mixed[:, :, :crossover] = w[:rows, None, None]

    orders = torch.arange(rows + columns), torch.arange(rows).repeat_interleave(columns)
    faces, inside = (
        draw_all(generator, styles, None if told is None else _in_order(told, order))
        for styles, order in zip((w, mixed.flatten(0, 1)), orders)
    )
    table = faces.new_full((rows + 1, columns + 1, *faces.shape[1:]), 255)
    table[1:, 0], table[0, 1:], table[1:, 1:] = faces[:rows], faces[rows:], inside.unflatten(0, (rows, columns))
    return table.flatten(0, 1)


def _in_order(words: Words, numbers: Tensor) -> WordsOf:
    """Gives the words with these numbers `[n]` in turn."""
    return lambda first, count: words[numbers[first : first + count]]
