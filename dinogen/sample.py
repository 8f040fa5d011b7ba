"""Opening a trained generator and drawing with it: images from seeds, and walks between them."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.utils import logging as hub_logging
from torch import Tensor

from dinogen.errors import DinogenError, UsageError, first_line
from dinogen.images import to_uint8
from dinogen.networks import Generator
from dinogen.networks.synthesis import block_resolutions
from dinogen.snapshot import open_snapshot

BATCH_SIZE = 16
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"


def choose_device(name: str) -> torch.device:
    """`auto` is the GPU where there is one, else the CPU; anything else is taken by its torch name.

    Raises:
        UsageError: this machine, or this torch, has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
        return device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"--device {name} cannot be used on this machine; take auto or cpu") from error


def load_generator(model: str | Path, device: torch.device | str = "cpu") -> Generator:
    """Open a snapshot for drawing. Only safetensors are read, never a pickle.

    Args:
        model: a run's folder (its newest snapshot is taken), a snapshot's folder, or a hub id such as `owner/name`.
        device: where the generator shall lie.

    Raises:
        UsageError: nothing of that name, or a folder without a snapshot.
        DinogenError: the hub does not give it, or its files are broken or do not fit each other.
    """
    generator = open_snapshot(*_locate(str(model)))
    return generator.to(device).eval().requires_grad_(False)


def newest_snapshot(run: Path) -> Path | None:
    """The snapshot of a run with the highest clock reading, or None."""
    found = [folder for folder in (run / "snapshots").glob("kimg*") if re.fullmatch(r"kimg\d+(\.\d+)?", folder.name)]
    return max(found, key=lambda folder: float(folder.name.removeprefix("kimg")), default=None)


def _locate(model: str) -> tuple[Path, Path]:
    """The configuration and the weights that a `--model` names."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        snapshot = folder if (folder / WEIGHTS_FILE).exists() else newest_snapshot(folder)
        if snapshot is None:
            raise UsageError(
                f"{model}: no snapshot here; pass a run that has saved one, or a folder with {WEIGHTS_FILE}"
            )
        for name in (CONFIG_FILE, WEIGHTS_FILE):
            if not (snapshot / name).is_file():
                raise DinogenError(f"{snapshot}: {name} is missing; copy the whole snapshot again")
        return snapshot / CONFIG_FILE, snapshot / WEIGHTS_FILE
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", model) or folder.parent.is_dir():
        raise UsageError(f"{model}: no such folder; --model takes a run, a snapshot or a hub id such as owner/name")
    return _download(model, CONFIG_FILE), _download(model, WEIGHTS_FILE)


def _download(hub_id: str, name: str) -> Path:
    print(f"{hub_id}: no such folder here, asking the hub for {name}", file=sys.stderr)
    hub_logging.set_verbosity_error()  # its retries would bury our one line
    try:
        return Path(hf_hub_download(hub_id, name))
    except (OSError, ValueError) as error:
        raise DinogenError(
            f"{hub_id}: no such folder here, and the hub did not give {name} ({first_line(error)}); "
            "check the name and the network, or pass a folder"
        ) from error


def latents(seed: int, first: int, count: int, z_dim: int) -> Tensor:
    """Latents number `first` to `first + count - 1` of a seed, `[count, z_dim]`, standard normal, on the CPU.

    Each has a random generator of its own, so that it depends on the seed and its number alone.
    """
    return torch.stack([_latent(seed, index, z_dim) for index in range(first, first + count)])


def _latent(seed: int, index: int, z_dim: int) -> Tensor:
    # Neighbouring seeds of one generator can be alike; SeedSequence mixes seed and number, the same on every machine.
    state = int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0])
    return torch.randn(z_dim, generator=torch.Generator().manual_seed(state >> 1))


@torch.no_grad()
def sample_images(
    generator: Generator, count: int, seed: int, truncation_psi: float = 1.0, batch_size: int = BATCH_SIZE
) -> Tensor:
    """Draw samples 0 to `count - 1` of a seed.

    Sample i is a function of `(seed, i)`: the count and the other samples have no part in it. Another `batch_size`
    or device may move a pixel by one grey level, because floating-point sums are then taken in another order.

    Args:
        generator: draws at its trained resolution R, on the device where it lies.
        count: number of images, 1 or more.
        seed: 0 or more.
        truncation_psi: 1 keeps all variety, 0 draws the average style.
        batch_size: images drawn at a time.

    Returns:
        uint8 `[count, 3, R, R]` on the CPU.
    """
    return torch.cat(list(sample_batches(generator, count, seed, truncation_psi, batch_size)))


@torch.no_grad()
def sample_batches(
    generator: Generator, count: int, seed: int, truncation_psi: float = 1.0, batch_size: int = BATCH_SIZE
) -> Iterator[Tensor]:
    """`sample_images` batch by batch, for more samples than memory holds."""
    for first in range(0, count, batch_size):
        # A short last batch is drawn whole as well: the sums of a convolution depend on the size of its batch.
        w = styles(generator, latents(seed, first, batch_size, generator.z_dim), truncation_psi)
        yield draw(generator, w)[: count - first]


def styles(generator: Generator, z: Tensor, truncation_psi: float = 1.0) -> Tensor:
    """Latents `[n, z_dim]` to styles `[n, w_dim]` on the generator's device, pulled towards the average style."""
    w = generator.mapping(z.to(generator.w_avg.device))
    return w if truncation_psi == 1 else generator.w_avg.lerp(w, truncation_psi)


def draw(generator: Generator, w: Tensor) -> Tensor:
    """Styles `[n, w_dim]` to uint8 images `[n, 3, R, R]` on the CPU, R the trained resolution."""
    return to_uint8(generator.draw(w))


@torch.no_grad()
def interpolation_strip(generator: Generator, rows: int, frames: int, seed: int, truncation_psi: float = 1.0) -> Tensor:
    """Walks between pairs of faces, in straight lines from style to style.

    Straight lines between styles look better than arcs between latents: the mapping network has already unbent the
    space of faces (StyleGAN, arXiv 1812.04948, section 4.1).

    Args:
        generator: draws at its trained resolution R.
        rows: pairs; row r goes from sample 2r of the seed to sample 2r + 1.
        frames: images in a row, both ends included; 2 or more.
        seed: 0 or more.
        truncation_psi: 1 keeps all variety, 0 draws the average style.

    Returns:
        uint8 `[rows · frames, 3, R, R]` on the CPU, row by row.
    """
    ends = styles(generator, latents(seed, 0, 2 * rows, generator.z_dim), truncation_psi).unflatten(0, (rows, 2))
    steps = torch.linspace(0, 1, frames, device=ends.device)[:, None]
    return torch.cat([draw(generator, start.lerp(end, steps)) for start, end in ends])


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
    corners = styles(generator, latents(seed, 0, faces, generator.z_dim), truncation_psi)
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
def style_mixing(generator: Generator, rows: int, columns: int, seed: int, truncation_psi: float = 1.0) -> Tensor:
    """A table of faces with the coarse half of the blocks styled by one face and the finer half by another
    (StyleGAN, arXiv 1812.04948, section 3.1).

    Args:
        generator: draws at its trained resolution R.
        rows: faces that style the coarse blocks: samples 0 to `rows - 1` of the seed.
        columns: faces that style the finer ones: the samples after those.
        seed: 0 or more.
        truncation_psi: 1 keeps all variety, 0 draws the average style.

    Returns:
        uint8 `[(rows + 1) · (columns + 1), 3, R, R]` on the CPU, row by row. The first row and the first column show
        the faces themselves, and the corner is white.
    """
    w = styles(generator, latents(seed, 0, rows + columns, generator.z_dim), truncation_psi)
    coarse, fine = w[:rows], w[rows:]
    crossover = len(block_resolutions(generator.trained_resolution)) // 2
    mixed = fine[None, :, None].repeat(rows, 1, len(generator.synthesis.blocks), 1)
    mixed[:, :, :crossover] = coarse[:, None, None]
    faces = torch.cat([draw(generator, some) for some in w.split(BATCH_SIZE)])
    inside = torch.cat([draw(generator, some) for some in mixed.flatten(0, 1).split(BATCH_SIZE)])
    table = faces.new_full((rows + 1, columns + 1, *faces.shape[1:]), 255)
    table[1:, 0], table[0, 1:], table[1:, 1:] = faces[:rows], faces[rows:], inside.unflatten(0, (rows, columns))
    return table.flatten(0, 1)
