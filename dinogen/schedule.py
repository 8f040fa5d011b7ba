"""Where training stands: pure functions of `cur_nimg`, the number of real images seen by all ranks."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dinogen.config import RunConfig

EMA_RAMPUP = 0.05
WARMUP_FALL = 3  # its learning rate falls over one third of its last stage


@dataclass(frozen=True)
class Stage:
    """One moment of the generator's growth.

    Args:
        resolution: side of the images being trained.
        alpha: how much of the newest block is seen, 0 to 1.
    """

    resolution: int
    alpha: float


def stage_at(cur_nimg: int, config: RunConfig) -> Stage:
    """The stage at a clock reading: first those of the warm-up, then growth.

    Growth is that of Progressive GAN (arXiv 1710.10196, figure 2): a stage fades in, then settles.
    """
    resolution, start = [found for found in stage_starts(config) if found[1] <= cur_nimg][-1]
    fade_nimg = config.schedule.fade_kimg * 1000
    if cur_nimg < config.warmup_nimg or resolution == config.schedule.start_resolution or fade_nimg == 0:
        return Stage(resolution, 1.0)
    return Stage(resolution, min(1.0, (cur_nimg - start) / fade_nimg))


def stage_starts(config: RunConfig) -> list[tuple[int, int]]:
    """Resolution of each stage and the clock reading at which it begins, from first to last."""
    starts, clock = [], 0.0
    for resolution, kimg in config.warmup.stage_kimg.items() if config.warmup else ():
        starts.append((resolution, math.ceil(clock)))
        clock += kimg * 1000
    schedule, resolution = config.schedule, config.schedule.start_resolution
    while resolution <= config.generator.img_resolution:
        starts.append((resolution, math.ceil(clock)))
        clock += schedule.stage_kimg_at.get(resolution, schedule.stage_kimg) * 1000
        resolution *= 2
    return starts


def batch_sizes_at(cur_nimg: int, resolution: int, config: RunConfig) -> tuple[int, int]:
    """Generated and real images a step, all ranks together, at a clock reading and its stage's resolution."""
    if config.warmup and cur_nimg < config.warmup_nimg:
        return config.warmup.batch, config.warmup.batch
    batches = config.batches
    generated = from_resolution(batches.generated_at, resolution, batches.generated)
    real = max(generated, batches.real * generated // batches.generated)
    growth = batches.decay_growth if cur_nimg >= decay_start(config) else 1
    return growth * generated, growth * real


def all_batch_sizes(config: RunConfig) -> set[tuple[int, int]]:
    """Generated and real images a step, all ranks together, in every part of a run."""
    clocks = (0, config.warmup_nimg, int(config.schedule.total_kimg * 1000))
    resolutions = (4, *config.batches.generated_at)
    return {batch_sizes_at(nimg, resolution, config) for nimg in clocks for resolution in resolutions}


def from_resolution(values: Mapping[int, Any], resolution: int, otherwise: Any) -> Any:
    """The value that holds at a resolution, of values that hold from theirs on."""
    applying = [own for own in values if own <= resolution]
    return values[max(applying)] if applying else otherwise


def decay_start(config: RunConfig) -> float:
    """The clock reading from which the learning rate falls, in images."""
    return (config.schedule.total_kimg - config.optimizer.decay_kimg) * 1000


def learning_rate_at(cur_nimg: int, config: RunConfig) -> float:
    """Linear ramp-up, then each stage's own, then a cosine to zero over the last `decay_kimg`.

    During the warm-up its own, which falls to zero over the last third of its last stage.
    """
    optimizer, warmup_nimg = config.optimizer, config.warmup_nimg
    if config.warmup and cur_nimg < warmup_nimg:
        last = 1000 * [*config.warmup.stage_kimg.values()][-1]
        return config.warmup.learning_rate * min(1.0, WARMUP_FALL * (warmup_nimg - cur_nimg) / last)
    resolution = stage_at(cur_nimg, config).resolution
    rate = from_resolution(optimizer.learning_rate_at, resolution, optimizer.learning_rate)
    if optimizer.rampup_kimg:
        rate *= min(1.0, (cur_nimg - warmup_nimg + 1) / (optimizer.rampup_kimg * 1000))
    if optimizer.decay_kimg:
        left = max(0.0, config.schedule.total_kimg * 1000 - cur_nimg) / (optimizer.decay_kimg * 1000)
        rate *= 0.5 - 0.5 * math.cos(math.pi * min(1.0, left))
    return rate


def ema_beta(cur_nimg: int, nimg_per_step: int, ema_kimg: float) -> float:
    """Decay of the averaged generator for a step over `nimg_per_step` images, from its half-life `ema_kimg`.

    Early on the half-life is a twentieth of the clock (StyleGAN2-ADA's ramp-up), so that the first pictures
    are not averages over noise.
    """
    half_life = min(ema_kimg * 1000, cur_nimg * EMA_RAMPUP)
    return 0.5 ** (nimg_per_step / max(half_life, 1e-8))
