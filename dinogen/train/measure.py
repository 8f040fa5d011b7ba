"""How fast a stage's steps are, and how much memory they take: the run's own steps, on its own data."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import psutil
import torch
from torch.utils.flop_counter import FlopCounterMode

from dinogen.config import RunConfig
from dinogen.distributed import gather_rows
from dinogen.objectives import Loss
from dinogen.progress import progress
from dinogen.schedule import batch_sizes_at, decay_start, stage_starts
from dinogen.train.laps import now

if TYPE_CHECKING:
    from dinogen.train.trainer import Trainer


SECONDS_A_STAGE = 2
MOST_STEPS = 12


@dataclass(frozen=True)
class StagePlan:
    """One stage of a run, or a part of it in which batches have one size and the loss has the same terms.

    Args:
        resolution: side of its images.
        start: clock at its first image.
        end: clock after its last one.
        terms: names of the loss's terms.
    """

    resolution: int
    start: int
    end: int
    terms: str


@dataclass(frozen=True)
class Measurement:
    """What the steps of a stage took; of the slowest rank, and of the one with the most memory.

    Args:
        resolution: side of the images.
        batch_size: generated images a step, all ranks together.
        real_batch_size: real images a step, all ranks together.
        seconds: of one step, the loader's waiting included.
        steps: how many were measured.
        step_images: real images that a step moves the clock by: those of all its accumulated batches.
        peak_bytes: of the device's memory that tensors took; on the CPU of the process's.
        step_flop: operations of a step on one rank, forward and backward, of generator, teacher and loss.
        image_flop: the same for each image that it generates.
        parts: seconds of a step's parts on one rank.
    """

    resolution: int
    batch_size: int
    real_batch_size: int
    seconds: float
    steps: int
    step_images: float
    peak_bytes: int
    step_flop: dict[str, float]
    image_flop: dict[str, float]
    parts: dict[str, float]

    @property
    def images_per_second(self) -> float:
        """Real images: what moves the clock."""
        return self.step_images / self.seconds


def plan_stages(config: RunConfig, loss: Loss) -> list[StagePlan]:
    """The stages that a run gets to within `total_kimg`, coarse to fine, in parts of equal steps."""
    total = int(config.schedule.total_kimg * 1000)
    changes = loss.changes() | ({decay_start(config)} if config.batches.decay_growth > 1 else set())
    starts = stage_starts(config)
    stages = []
    for (resolution, start), (_, end) in pairwise([*starts, (0, total)]):
        end = min(end, total)
        inside = {math.ceil(change) for change in changes if start < change < end}
        for begins, ends in pairwise(sorted({start, end} | inside) if start < end else ()):
            stages.append(StagePlan(resolution, begins, ends, loss.names(begins, resolution)))
    return stages


@contextmanager
def steps_of(trainer: "Trainer", stage: StagePlan) -> Iterator[Callable[[], int]]:
    """Yield a function that takes one step of a stage, faded in as far as it gets, and returns its real images.

    The trainer's weights move; its run's folder is left alone.
    """
    clock = min(stage.end - 1, stage.start + int(trainer.config.schedule.fade_kimg * 1000))
    trainer.cur_nimg = clock
    batches = trainer.one_stage()

    def step() -> int:
        trainer.train_step(*next(batches))
        taken, trainer.cur_nimg = trainer.cur_nimg - clock, clock  # however many there are, they are of this stage
        return taken

    try:
        yield step
    finally:
        batches.close()


def measure_stage(trainer: "Trainer", stage: StagePlan, steps: int | None = None, warm_up: int = 1) -> Measurement:
    """Take steps of a stage and say what they took. Call on all ranks.

    Args:
        trainer: of the run.
        stage: one of its stages.
        steps: to measure; None takes as many as fit into two seconds, one at least.
        warm_up: steps before, which do not count: in them libraries choose their ways, and torch compiles.
    """
    device = trainer.device
    with steps_of(trainer, stage) as step:
        began = now(device)
        for _ in range(warm_up):
            step()
        warming = torch.tensor([(now(device) - began) / warm_up], device=device)
        slowest = float(gather_rows(warming).max())  # all ranks wait here for each other
        count = steps or min(MOST_STEPS, max(1, round(SECONDS_A_STAGE / slowest)))
        shown = steps is not None and trainer.is_main
        forget_peak(device)
        began, images = now(device), 0
        for _ in progress(range(count), desc=f"{stage.resolution} px", unit="step") if shown else range(count):
            images += step()
        seconds = (now(device) - began) / count
    mine = torch.tensor([[seconds, float(peak_bytes(device))]], dtype=torch.float64, device=device)
    seconds, peak = gather_rows(mine).amax(dim=0).tolist()
    batch_sizes = batch_sizes_at(stage.start, stage.resolution, trainer.config)
    drawn = batch_sizes[0] / trainer.world_size * trainer.config.batches.accumulation
    flop, parts = step_parts(trainer, stage)
    per_image: dict[str, float] = {part: of / drawn for part, of in flop.items()}
    return Measurement(
        stage.resolution, *batch_sizes, seconds, count, images / count, int(peak), flop, per_image, parts
    )


def step_parts(trainer: "Trainer", stage: StagePlan) -> tuple[dict[str, float], dict[str, float]]:
    """How a step of a stage divides on this rank, forward and backward. Call on all ranks.

    Ranks wait for each other in the loss, and for the gradients in the generator's part. The backward pass through the
    loss counts as the teacher's.

    Returns:
        Operations of generator, teacher and loss, and seconds of these and the rest.
    """
    laps = trainer.comparer.laps
    with steps_of(trainer, stage) as step:
        counts = count_flop(step)
        laps.start()
        step()
        seconds = laps.stop()
    wrapped = (trainer.G, trainer.teacher)  # the counter names modules as accelerate wraps them
    generator, teacher = (counts.get(type(part).__name__, 0.0) for part in wrapped)
    flop = {"generator": generator, "teacher": teacher, "loss": counts["Global"] - generator - teacher}
    return flop, seconds


def count_flop(work: Callable[[], object]) -> dict[str, float]:
    """Operations of the matrix products, attentions and convolutions in `work`; a compiled one hides some of them.

    Returns:
        All of them as `Global`, and those of each kind of module by its name.
    """
    with FlopCounterMode(display=False) as counter:
        work()
    counts = {name: float(sum(of.values())) for name, of in counter.get_flop_counts().items()}
    return {"Global": 0.0} | counts


def forget_peak(device: torch.device) -> None:
    """From now on the peak is counted anew."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:  # not Linux, or not allowed: the peak since the process began is an upper bound
        pass


def peak_bytes(device: torch.device) -> int:
    """The most memory in use since `forget_peak`."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        with open("/proc/self/status") as file:
            (line,) = (line for line in file if line.startswith("VmHWM"))
            return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        return psutil.Process().memory_info().rss
