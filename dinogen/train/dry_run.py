"""A dry run: everything is built, a few steps are taken, and what the whole schedule will take is worked out."""

import math
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from dinogen.distributed import any_rank
from dinogen.train.measure import Measurement, StagePlan, measure_stage, plan_stages

if TYPE_CHECKING:
    from dinogen.train.trainer import Trainer

CHEAP_MINUTES = 3  # no further stage is measured after this
GIB = 2**30


@dataclass(frozen=True)
class Forecast:
    """What was found out about a run.

    Args:
        stages: those of the schedule, coarse to fine.
        measured: what was found of those that were measured; always of the last.
        already: clock at which the run stands.
    """

    stages: list[StagePlan]
    measured: dict[StagePlan, Measurement]
    already: int

    def rate(self, stage: StagePlan) -> float:
        """Real images a second. A stage that was not measured is taken to be as slow as the next one that was."""
        later = [measured for measured in self.measured if measured.start >= stage.start]
        return self.measured[min(later, key=lambda measured: measured.start)].images_per_second

    def seconds(self, stage: StagePlan) -> float:
        """What is left of a stage."""
        return max(0, stage.end - max(stage.start, self.already)) / self.rate(stage)


def rehearse(trainer: "Trainer") -> Forecast:
    """Measure the largest stage, then the others as long as that is cheap. Call on all ranks."""
    began, already = time.monotonic(), trainer.cur_nimg
    stages = plan_stages(trainer.config, trainer.comparer.loss)
    measured = {}
    for stage in [stages[-1], *stages[:-1]]:
        if measured and any_rank(time.monotonic() - began > CHEAP_MINUTES * 60, trainer.device):
            break
        measured[stage] = measure_stage(trainer, stage)
    trainer.cur_nimg = already
    return Forecast(stages, measured, already)


def describe(trainer: "Trainer", forecast: Forecast) -> str:
    """The forecast as text for a person."""
    ranks, precision = trainer.world_size, trainer.accelerator.mixed_precision
    what = f"{ranks} process{'es' if ranks > 1 else ''} on {trainer.describe_devices()['device']}"
    arithmetic = "fp32" if precision == "no" else precision
    return "\n".join(
        [
            f"Dry run: {what}, {arithmetic}. Nothing was written to {trainer.folder.root}.",
            "",
            *networks(trainer),
            "",
            *schedule(forecast),
            "",
            *disk(trainer),
            "",
            "GFLOP for each generated image, forward and backward: generator + teacher + loss.",
            "Parts of a step's time in percent: generator + teacher + loss + rest. Ranks wait for each",
            "other in the loss and in the generator.",
            "Measured: images a second and memory, in some steps of each stage after one to warm up. Computed:",
            "disk, and time, which leaves out pictures and saving. Memory is that of "
            + ("tensors on the device; add about 2 GiB." if trainer.device.type == "cuda" else "the whole process."),
        ]
    )


def networks(trainer: "Trainer") -> list[str]:
    """Parameters of the generator and the teacher."""
    teacher = list(trainer.teacher.parameters())
    whole = sum(parameter.numel() for parameter in teacher)
    here = sum(local_part(parameter).numel() for parameter in teacher)
    place = "whole on every process" if here == whole else f"{millions(here)} on each process"
    generator = sum(parameter.numel() for parameter in trainer.network.parameters())
    return [
        f"generator  {millions(generator):>9} parameters, with its average and the optimiser",
        f"teacher    {millions(whole):>9} parameters, {place} ({trainer.teacher.specs.finest.teacher})",
    ]


def local_part(parameter: Tensor) -> Tensor:
    """What of a sharded parameter lies on this rank."""
    to_local = getattr(parameter, "to_local", None)
    return to_local() if to_local else parameter


def schedule(forecast: Forecast) -> list[str]:
    """A row for each stage, and one for all."""
    head = (
        "stage",
        "kimg",
        "loss",
        "batch gen/real",
        "GFLOP an image",
        "% of a step",
        "real img/s",
        "memory",
        "time left",
    )
    rows: list[tuple[str, ...]] = [head]
    for stage in forecast.stages:
        taken = forecast.measured.get(stage)
        rows.append(
            (
                f"{stage.resolution} px",
                f"{stage.start / 1000:g}–{stage.end / 1000:g}",
                stage.terms,
                f"{taken.batch_size}/{taken.real_batch_size}" if taken else "",
                " + ".join(f"{of / 1e9:.2g}" for of in taken.image_flop.values()) if taken else "",
                shares(taken.parts) if taken else "",
                f"{taken.images_per_second:.1f}" if taken else f"≥ {forecast.rate(stage):.1f}",
                gibibytes(taken.peak_bytes) if taken else "not measured",
                duration(forecast.seconds(stage)),
            )
        )
    peak = max(taken.peak_bytes for taken in forecast.measured.values())
    left = sum(map(forecast.seconds, forecast.stages))
    total = forecast.stages[-1].end / 1000
    rows.append(("all", f"{forecast.already / 1000:g}–{total:g}", "", "", "", "", "", gibibytes(peak), duration(left)))
    return table(rows)


def shares(parts: Mapping[str, float]) -> str:
    """What each part is of all, in percent."""
    return " + ".join(f"{100 * seconds / sum(parts.values()):.0f}" for seconds in parts.values())


def disk(trainer: "Trainer") -> list[str]:
    """What the run's folder will take, and whether there is room for it."""
    saving, total_kimg = trainer.config.saving, trainer.config.schedule.total_kimg
    sizes = {part.file: part.nbytes() for part in trainer.kept}
    checkpoint, snapshot = sum(sizes.values()), sizes["ema"]
    kept = saving.keep_checkpoints + 1  # one is written before another goes
    milestones = int(total_kimg / saving.keep_every_kimg) if saving.keep_every_kimg else 0
    snapshots = math.ceil(total_kimg / saving.snapshot_kimg)
    needed = checkpoint * (kept + milestones) + snapshot * snapshots
    free = free_space(trainer.folder.root)
    rows = [
        ("checkpoints", f"{kept} × {amount(checkpoint)}", "the last ones and the one being written"),
        *([("", f"{milestones} × {amount(checkpoint)}", "kept for good")] if milestones else []),
        ("snapshots", f"{snapshots} × {amount(snapshot)}", "none is deleted"),
        ("disk", amount(needed), f"{amount(free)} free; pictures come on top"),
    ]
    width = max(len(row[1]) for row in rows)
    lines = [f"{name:<11}  {size:<{width}}  {note}".rstrip() for name, size, note in rows]
    if free < needed:
        lines.append("That does not fit: make room, choose another --output, or a larger --saving.snapshot_kimg.")
    return lines


def free_space(folder: Path) -> int:
    """Bytes free where a folder is or would be made."""
    return shutil.disk_usage(
        next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    ).free


def table(rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Columns side by side, the first aligned left, the others right."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))])
        for row in rows
    ]


def millions(count: int) -> str:
    return f"{count / 1e6:.1f} M"


def amount(count: int) -> str:
    """Bytes, with two or three digits at least."""
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if count >= 10 * unit:
            return f"{count / unit:,.0f} {name}"
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:,.0f} kB"


def gibibytes(count: int) -> str:
    return f"{count / GIB:.2f} GiB"


def duration(seconds: float) -> str:
    """`1:02:03`, or with days."""
    return str(timedelta(seconds=round(seconds)))
