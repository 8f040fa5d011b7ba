"""What a run is built of: the teacher, the generator and its optimiser, as the device likes them."""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from torch.distributed.device_mesh import init_device_mesh
from torch.optim import Adam
from torch.utils.checkpoint import checkpoint

from dinogen.advice import counted
from dinogen.config import RunConfig
from dinogen.data.manifest import Manifest
from dinogen.errors import UsageError
from dinogen.networks import Generator
from dinogen.pyramid import spaced
from dinogen.schedule import all_batch_sizes, stage_starts
from dinogen.teachers import Teacher, shard_teacher, teacher_of, wants_sharding
from dinogen.train.launcher import cpu_has_bf16

COMPILED_VARIANTS = 64  # of one function: stages, batch sizes, with and without gradient
CPU_BF16_FROM_WIDTH = 384  # of embeddings: smaller teachers gain nothing
BETAS = (0.9, 0.99)  # of Adam


def check_against_data(config: RunConfig, manifest: Manifest, ranks: int) -> RunConfig:
    """The config with batches that the data can fill and the ranks can share.

    Raises:
        UsageError: the ranks could not take equal shares, images are larger than crops, or a stage is not packed.
    """
    size, crop_size = config.generator.img_resolution, manifest.crop_size
    if size > crop_size:
        raise UsageError(
            f"generator.img_resolution {size}: the crops of {config.data} have {crop_size}×{crop_size} pixels; take "
            f"{crop_size} or less, or cut larger ones with dinogen crop --size {size}"
        )
    needed = {resolution for resolution, start in stage_starts(config) if start >= config.warmup_nimg}
    if missing := sorted(needed - set(manifest.specs)):
        raise UsageError(
            f"{config.data}: packed for {spaced(manifest.specs)} px, but this run grows through {spaced(missing)} px "
            "too; give --schedule.start_resolution, or pack the crops with more --stages"
        )
    config = fit_batches(config, sum(shard.samples for shard in manifest.shards_of()), ranks)
    for key, numbers in zip(("generated", "real"), zip(*all_batch_sizes(config))):
        for number in sorted(set(numbers)):
            if number < 2:
                raise UsageError(f"batches.{key} {number} is too few for a step; take {2 * ranks} or more")
            if number % ranks:
                raise UsageError(
                    f"batches.{key} {number} cannot be shared by {counted(ranks, 'rank')}; take a multiple of {ranks}"
                )
    return config


def fit_batches(config: RunConfig, samples: int, ranks: int) -> RunConfig:
    """Smaller batches where there are fewer samples than the largest batch; says so.

    Reals come in whole multiples of the generated images, because transport compares sets of one size.
    """
    batches = config.batches
    if samples < 2 * ranks or max(real for _, real in all_batch_sizes(config)) <= samples:
        return config
    generated = min(batches.generated, samples // ranks * ranks)
    real = min(batches.real, samples // generated * generated)
    growth = max(1, min(batches.decay_growth, samples // real))
    at = {resolution: min(number, generated) for resolution, number in batches.generated_at.items()}
    fitted = replace(batches, generated=generated, real=real, generated_at=at, decay_growth=growth)
    warmup = config.warmup
    if warmup is not None:
        warmup = replace(warmup, batch=min(warmup.batch, samples // ranks * ranks))
    if int(os.environ.get("RANK", 0)) == 0:
        print(
            f"{samples} samples are fewer than a batch: using batches.generated {generated}, batches.real {real} and "
            f"batches.decay_growth {growth}. With so little data expect the generator to repeat faces.",
            file=sys.stderr,
        )
    return replace(config, batches=fitted, warmup=warmup)


def build_teacher(config: RunConfig, manifest: Manifest, accelerator: Accelerator) -> Teacher:
    """The frozen teacher on the device, its parameters split over the ranks where the config wants that."""
    settings = config.teacher
    teacher = teacher_of(manifest.specs, settings.path)
    if settings.precision == "bf16" or (settings.precision == "auto" and prefers_bf16(teacher, config, accelerator)):
        teacher.cast_weights(torch.bfloat16)
    teacher.to(accelerator.device)
    for block in teacher.blocks:
        # Not the whole model: its hooks, which collect the blocks' outputs, cannot be compiled.
        if config.machine.compile:
            block.forward = compiled(block.forward)
        if settings.activation_checkpointing:
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    ranks = accelerator.num_processes
    if wants_sharding(teacher, settings.shard, ranks):
        shard_teacher(teacher, init_device_mesh(accelerator.device.type, (ranks,)))
    return teacher


def prefers_bf16(teacher: Teacher, config: RunConfig, accelerator: Accelerator) -> bool:
    """Whether a frozen network may lie in bf16: the device has it, and the run is not to be in full precision.

    On CPUs with bf16 units a large teacher is two to five times as fast in it. The generator's convolutions are not.
    """
    if accelerator.device.type == "cuda":
        return accelerator.mixed_precision != "no" and torch.cuda.is_bf16_supported(including_emulation=False)
    return config.precision != "no" and teacher.backbone.width >= CPU_BF16_FROM_WIDTH and cpu_has_bf16()


def build_generator(config: RunConfig, device: torch.device, sizes: Mapping[str, Any]) -> tuple[Generator, Adam]:
    """The generator as the seed starts it, and its optimiser; `sizes` are those of the words that it takes."""
    torch.manual_seed(config.seed)
    network = Generator(**vars(config.generator), **sizes)
    network.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    fused = device.type == "cuda" or None
    return network, Adam(network.parameters(), lr=config.optimizer.learning_rate, betas=BETAS, fused=fused)


def compiled(function: Callable) -> Callable:
    """Compile a module's forward for each shape that it meets."""
    torch._dynamo.config.recompile_limit = COMPILED_VARIANTS
    return torch.compile(function, dynamic=False)
