"""Where training stands: pure functions of `cur_nimg`, the number of real images seen by all ranks."""

import math
from dataclasses import dataclass

from dinogen.config import RunConfig, ScheduleConfig

EMA_RAMPUP = 0.05


@dataclass(frozen=True)
class Stage:
    """One moment of the generator's growth.

    Args:
        resolution: side of the images being trained.
        alpha: how much of the newest block is seen, 0 to 1.
    """

    resolution: int
    alpha: float


def stage_at(cur_nimg: int, schedule: ScheduleConfig, img_resolution: int) -> Stage:
    """The stage at a clock reading (Progressive GAN, arXiv 1710.10196, figure 2: fade in, then settle)."""
    stages_done = int(cur_nimg / (schedule.stage_kimg * 1000))
    resolution = min(schedule.start_resolution << min(stages_done, 16), img_resolution)
    start = stage_start(resolution, schedule)
    fade_nimg = schedule.fade_kimg * 1000
    if resolution == schedule.start_resolution or fade_nimg == 0:
        return Stage(resolution, 1.0)
    return Stage(resolution, min(1.0, (cur_nimg - start) / fade_nimg))


def stage_start(resolution: int, schedule: ScheduleConfig) -> float:
    """The clock reading at which a stage begins, in images."""
    return math.log2(resolution / schedule.start_resolution) * schedule.stage_kimg * 1000


def batch_sizes_at(cur_nimg: int, resolution: int, config: RunConfig) -> tuple[int, int]:
    """Generated and real images a step, all ranks together, at a clock reading and its stage's resolution."""
    batches = config.batches
    applying = [size for size in batches.generated_at if size <= resolution]
    generated = batches.generated_at[max(applying)] if applying else batches.generated
    real = max(generated, batches.real * generated // batches.generated)
    growth = batches.decay_growth if cur_nimg >= decay_start(config) else 1
    return growth * generated, growth * real


def all_batch_sizes(config: RunConfig) -> set[tuple[int, int]]:
    """Generated and real images a step, all ranks together, in every part of a run."""
    clocks, resolutions = (0, int(config.schedule.total_kimg * 1000)), (4, *config.batches.generated_at)
    return {batch_sizes_at(nimg, resolution, config) for nimg in clocks for resolution in resolutions}


def decay_start(config: RunConfig) -> float:
    """The clock reading from which the learning rate falls, in images."""
    return (config.schedule.total_kimg - config.optimizer.decay_kimg) * 1000


def learning_rate_at(cur_nimg: int, config: RunConfig) -> float:
    """Linear ramp-up, then constant, then a cosine to zero over the last `decay_kimg`."""
    optimizer = config.optimizer
    rate = optimizer.learning_rate
    if optimizer.rampup_kimg:
        rate *= min(1.0, (cur_nimg + 1) / (optimizer.rampup_kimg * 1000))
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


def stage_of_run(cur_nimg: int, config: RunConfig) -> Stage:
    """`stage_at` for a whole config."""
    return stage_at(cur_nimg, config.schedule, config.generator.img_resolution)
