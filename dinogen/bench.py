"""Speed, memory and share of the device's arithmetic of a training step, for teachers with random weights."""

import time
from dataclasses import dataclass

import torch

from dinogen.config import RunConfig

WARM_UP = 3
AUTOCAST = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Result:
    """What was measured of one config.

    Args:
        device: its name.
        real_images_per_second: what moves the run's clock.
        generated_images_per_second: what is learned from.
        step_seconds: of one step.
        steps: how many were measured.
        peak_bytes: most memory that tensors took on the device; on the CPU that of the process.
        objective_share: the objective's part of a step's time, 0 to 1.
        step_flop: floating-point operations of the step's matrix products and convolutions.
        device_flops: operations a second of large matrix products on this device in this precision.
    """

    device: str
    real_images_per_second: float
    generated_images_per_second: float
    step_seconds: float
    steps: int
    peak_bytes: int
    objective_share: float
    step_flop: float
    device_flops: float


def measure(config: RunConfig, steps: int) -> Result:
    """Train for some steps of a config's first resolution and measure them. Call in a process of its own.

    Args:
        config: of the run, with a precision other than auto; nothing is written to its output.
        steps: to measure, after a few to warm up.
    """
    from dinogen.train.measure import measure_stage, plan_stages
    from dinogen.train.trainer import Trainer

    trainer = Trainer(config)
    plan = plan_stages(trainer.config, trainer.comparer.loss)
    first = [stage for stage in plan if stage.resolution == plan[0].resolution]
    stage = max(first, key=lambda stage: stage.end - stage.start)
    taken = measure_stage(trainer, stage, steps, WARM_UP)
    return Result(
        device=trainer.describe_devices()["device"],
        real_images_per_second=taken.images_per_second,
        generated_images_per_second=taken.images_per_second * taken.batch_size / taken.real_batch_size,
        step_seconds=taken.seconds,
        steps=taken.steps,
        peak_bytes=taken.peak_bytes,
        objective_share=taken.parts["loss"] / sum(taken.parts.values()),
        step_flop=sum(taken.step_flop.values()),
        device_flops=matrix_flops(trainer.device, AUTOCAST[config.precision]),
    )


def matrix_flops(device: torch.device, dtype: torch.dtype, seconds: float = 1.0) -> float:
    """Operations a second of products of large square matrices: what a step could reach at best."""
    from dinogen.train.laps import now

    side = 8192 if device.type == "cuda" else 1024
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    torch.matmul(left, right)
    began, products = now(device), 0
    while time.perf_counter() - began < seconds:
        for _ in range(10):
            torch.matmul(left, right)
        products += 10
        now(device)
    return 2 * side**3 * products / (now(device) - began)
