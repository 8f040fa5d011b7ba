"""What accelerate's launcher or a job script says by environment variables: obeyed as a whole, or refused.

Left to itself accelerate obeys half of them: it would divide gradients that nobody accumulates, or compile the
generator without the teacher.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, GradientAccumulationPlugin, InitProcessGroupKwargs

from dinogen.config import RunConfig
from dinogen.errors import UsageError, first_line
from dinogen.train.run_log import LOG

# The last resort: an exchange that nobody ends. The watchdog comes first, and names the rank.
PROCESS_GROUP_TIMEOUT = timedelta(minutes=12)
PRECISIONS = ("no", "bf16", "fp16")
ACCUMULATION = "ACCELERATE_GRADIENT_ACCUMULATION_STEPS"
PRECISION = "ACCELERATE_MIXED_PRECISION"
DYNAMO = "ACCELERATE_DYNAMO_"
PLAIN_DYNAMO = {
    "MODE": "default",
    "USE_FULLGRAPH": "false",
    "USE_DYNAMIC": "false",
    "USE_REGIONAL_COMPILATION": "false",
}
OTHER_WAYS = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "another parallelism",
}
FALSE = ("", "0", "false", "no", "n", "f", "off")


def obey_environment(config: RunConfig, environment: Mapping[str, str] = os.environ) -> RunConfig:
    """The config with what the environment asks for.

    Raises:
        UsageError: a variable asks for what dinogen does otherwise, or not at all; says which, and what to set.
    """
    for name, way in OTHER_WAYS.items():
        if environment.get(name, "").lower() not in FALSE:
            raise UsageError(
                f"{name}={environment[name]}: dinogen does not train with {way}; unset it, and see teacher.shard"
            )
    steps = environment.get(ACCUMULATION) or "1"
    if steps not in ("1", str(config.batches.accumulation)):
        raise UsageError(f"{ACCUMULATION}={steps}: unset it, and give --batches.accumulation {steps}")
    precision = environment.get(PRECISION) or "no"
    if precision.lower() not in PRECISIONS:
        raise UsageError(f"{PRECISION}={precision}: take one of {', '.join(PRECISIONS)}")
    return compile_as_asked(config, environment)


def compile_as_asked(config: RunConfig, environment: Mapping[str, str]) -> RunConfig:
    """Accelerate's wish to compile is one for `machine.compile`, which compiles the teacher too."""
    backend = environment.get(f"{DYNAMO}BACKEND", "no")
    if backend.lower() in FALSE:
        return config
    if backend.lower() != "inductor":
        raise UsageError(f"{DYNAMO}BACKEND={backend}: dinogen compiles with inductor; take that, or no")
    for name, plain in PLAIN_DYNAMO.items():
        value = environment.get(f"{DYNAMO}{name}", plain)
        if value.lower() != plain and not (plain == "false" and value.lower() in FALSE):
            raise UsageError(f"{DYNAMO}{name}={value}: dinogen compiles in its own way; unset it")
    return replace(config, machine=replace(config.machine, compile=True))


def make_accelerator(precision: str) -> Accelerator:
    """The ranks and the device, as accelerate's or torchrun's environment says, and the arithmetic.

    Args:
        precision: no, bf16 or fp16; or auto: what accelerate's launcher says, else bf16 on a GPU that has it.

    Raises:
        UsageError: the environment and this machine do not go together.
    """
    on_cuda = torch.cuda.is_available()
    if precision == "auto" and not os.environ.get(PRECISION):
        precision = "bf16" if on_cuda and torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    wanted = os.environ[PRECISION].lower() if precision == "auto" else precision
    if wanted == "fp16" and not on_cuda:
        raise UsageError(f"precision {wanted} needs a GPU; take --precision no, or bf16")
    try:
        accelerator = Accelerator(
            cpu=not on_cuda,
            mixed_precision=wanted,
            dynamo_backend="no",
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
            kwargs_handlers=[
                # Blocks beyond the current stage have no gradient.
                DistributedDataParallelKwargs(find_unused_parameters=True),
                InitProcessGroupKwargs(timeout=PROCESS_GROUP_TIMEOUT),
            ],
        )
    except (ValueError, RuntimeError, TypeError, ImportError, NotImplementedError) as error:
        raise UsageError(
            f"the processes, or the device, do not start as the environment asks ({first_line(error)}); look at the "
            "variables RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT and ACCELERATE_*"
        ) from error
    warn_if_emulated(accelerator)
    return accelerator


def warn_if_emulated(accelerator: Accelerator) -> None:
    """Say so where bf16 costs time instead of saving it."""
    if accelerator.mixed_precision == "bf16" and accelerator.device.type == "cpu" and not cpu_has_bf16():
        LOG.warning("This processor has no bf16 units and emulates bf16, many times slower; take --precision no.")


def cpu_has_bf16() -> bool:
    """Whether this processor multiplies matrices in bf16 itself; others emulate it, slowly."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
