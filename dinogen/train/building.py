"""What a run is built of: the accelerator, the teacher, the generator and its optimiser, as the device likes them."""

from datetime import timedelta

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs
from torch.distributed.device_mesh import init_device_mesh
from torch.optim import Adam

from dinogen.config import RunConfig, TeacherConfig, TrainConfig
from dinogen.errors import UsageError
from dinogen.networks import Generator
from dinogen.schedule import batch_sizes_at
from dinogen.teacher import Teacher, make_teacher, shard_teacher, wants_sharding

PROCESS_GROUP_TIMEOUT = timedelta(minutes=10)  # a dead rank must not hold the others for ever


def make_accelerator(config: RunConfig) -> Accelerator:
    """The ranks, the device and the precision, as accelerate's or torchrun's environment says."""
    return Accelerator(
        cpu=not torch.cuda.is_available(),
        gradient_accumulation_steps=config.train.gradient_accumulation_steps,
        kwargs_handlers=[
            # Blocks beyond the current stage have no gradient.
            DistributedDataParallelKwargs(find_unused_parameters=True),
            InitProcessGroupKwargs(timeout=PROCESS_GROUP_TIMEOUT),
        ],
    )


def check_batches_divide(train: TrainConfig, world_size: int) -> set[tuple[int, int]]:
    """Generated and real images a step, all ranks together, in every stage.

    Raises:
        UsageError: the ranks could not take equal shares.
    """
    batch_sizes = {batch_sizes_at(resolution, train) for resolution in (4, *train.batch_size_at)}
    for size in sorted(size for pair in batch_sizes for size in pair):
        if size % world_size or size < 2:
            raise UsageError(
                f"train: a batch of {size} cannot be shared by {world_size} ranks, two images at least; "
                f"take a multiple of {world_size}"
            )
    return batch_sizes


def build_teacher(config: TeacherConfig, device: torch.device, world_size: int) -> Teacher:
    """The frozen teacher on the device, its parameters split over the ranks where the config wants that."""
    settings = vars(config).copy()
    mode = settings.pop("shard")
    teacher = make_teacher(**settings).to(device)
    if wants_sharding(teacher, mode, world_size) and world_size > 1:
        shard_teacher(teacher, init_device_mesh(device.type, (world_size,)))
    return teacher


def build_generator(config: RunConfig, device: torch.device) -> tuple[Generator, Adam]:
    """The generator as the seed starts it, and its optimiser."""
    torch.manual_seed(config.seed)
    network = Generator(**vars(config.generator)).to(device)
    if device.type == "cpu":  # convolutions are a tenth to a quarter faster so; on GPUs it was not measured
        network = network.to(memory_format=torch.channels_last)
    return network, Adam(network.parameters(), lr=config.train.learning_rate, betas=config.train.betas)
