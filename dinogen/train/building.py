"""What a run is built of: the accelerator, the teacher, the generator and its optimiser, as the device likes them."""

from datetime import timedelta
from functools import partial

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.optim import Adam, Optimizer
from torch.utils.checkpoint import checkpoint

from dinogen.config import ObjectiveConfig, RunConfig, TrainConfig
from dinogen.errors import UsageError
from dinogen.networks import Generator
from dinogen.schedule import batch_sizes_at
from dinogen.teachers import Teacher, make_teacher, shard_teacher, wants_sharding

# The last resort: an exchange that nobody ends. The watchdog comes first, and names the rank.
PROCESS_GROUP_TIMEOUT = timedelta(minutes=12)
COMPILED_VARIANTS = 64  # of one function: stages, batch sizes, with and without gradient


def make_accelerator() -> Accelerator:
    """The ranks, the device and the precision, as accelerate's or torchrun's environment says."""
    return Accelerator(
        cpu=not torch.cuda.is_available(),
        kwargs_handlers=[
            # Blocks beyond the current stage have no gradient.
            DistributedDataParallelKwargs(find_unused_parameters=True),
            InitProcessGroupKwargs(timeout=PROCESS_GROUP_TIMEOUT),
        ],
    )


def check_batches(train: TrainConfig, objective: ObjectiveConfig, world_size: int) -> set[tuple[int, int]]:
    """Generated and real images a step, all ranks together, in every stage.

    Raises:
        UsageError: the ranks could not take equal shares, or a bank has no room for a batch.
    """
    end = int(train.total_kimg * 1000)
    batch_sizes = {
        batch_sizes_at(nimg, resolution, train) for resolution in (4, *train.batch_size_at) for nimg in (0, end)
    }
    for size in sorted(size for pair in batch_sizes for size in pair):
        if size % world_size or size < 2:
            raise UsageError(
                f"train: a batch of {size} cannot be shared by {world_size} ranks, two images at least; "
                f"take a multiple of {world_size}"
            )
    for key, sizes in zip(("generated_bank", "real_bank"), zip(*batch_sizes)):
        capacity = getattr(objective, key)
        if 0 < capacity < max(sizes):
            raise UsageError(
                f"objective.{key} {capacity} has no room for a batch of {max(sizes)}; take a multiple of that, or 0"
            )
    return batch_sizes


def build_teacher(config: RunConfig, accelerator: Accelerator) -> Teacher:
    """The frozen teacher on the device, its parameters split over the ranks where the config wants that."""
    settings = config.teacher
    teacher = make_teacher(**settings.of_spec())
    if settings.dtype == "bf16" or (settings.dtype == "auto" and prefers_bf16(accelerator)):
        teacher.cast_weights(torch.bfloat16)
    teacher.to(accelerator.device)
    for block in teacher.blocks:
        # Not the whole model: its hooks, which collect the layers' outputs, cannot be compiled.
        if config.train.compile:
            block.forward = compiled(block.forward)
        if settings.activation_checkpointing:
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    ranks = accelerator.num_processes
    if wants_sharding(teacher, settings.shard, ranks):
        shard_teacher(teacher, init_device_mesh(accelerator.device.type, (ranks,)))
    return teacher


def prefers_bf16(accelerator: Accelerator) -> bool:
    """Whether a frozen network may lie in bf16: the device has it, and the run is not to be in full precision."""
    on_cuda = accelerator.device.type == "cuda"
    return on_cuda and accelerator.mixed_precision != "no" and torch.cuda.is_bf16_supported(including_emulation=False)


def build_generator(config: RunConfig, device: torch.device) -> tuple[Generator, Adam]:
    """The generator as the seed starts it, and its optimiser."""
    torch.manual_seed(config.seed)
    network = Generator(**vars(config.generator)).to(device, memory_format=torch.channels_last)
    train, on_cuda = config.train, device.type == "cuda"
    return network, Adam(network.parameters(), lr=train.learning_rate, betas=train.betas, fused=on_cuda or None)


def compiled(function: nn.Module) -> nn.Module:
    """Compile a module's forward for each shape that it meets."""
    torch._dynamo.config.recompile_limit = COMPILED_VARIANTS
    return torch.compile(function, dynamic=False)


def lay_out_like_parameters(optimizer: Optimizer) -> None:
    """Give restored state the memory layout of its parameters, which a fused step relies on."""
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            if value.shape == parameter.shape:
                state[key] = torch.empty_like(parameter).copy_(value)
