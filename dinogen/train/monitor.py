"""What a run says of itself: a progress bar, a log, scalars, pictures, and a verdict at its end."""

import math
import os
import platform
import resource
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from dinogen.config import RunConfig
from dinogen.distributed import from_first_rank
from dinogen.evaluate.verdict import steering, verdict
from dinogen.files import make_output_folder
from dinogen.images import save_png
from dinogen.networks import Generator
from dinogen.progress import progress_bar
from dinogen.schedule import Stage, learning_rate_at, stage_at
from dinogen.train.judge import scalars_of
from dinogen.train.preview import Preview
from dinogen.train.run_folder import RunFolder
from dinogen.train.run_log import LOG, logged_to
from dinogen.train.stopping import StopRequest
from dinogen.train.trackers import Trackers, open_trackers

OVERVIEW, PICTURES = "1_overview", "2_pictures"  # TensorBoard sorts its groups, and folds all but the first two
ALARM_SPREAD = 0.3  # mean distance among generated features over that to real ones
ALARM_AFTER_KIMG = 20


class Monitor:
    """Watches a run. On the first rank it writes; the others take part where a forward is a collective.

    Args:
        config: of the run.
        cur_nimg: the clock at which this launch begins.
        preview: draws the pictures.
        stop: knows how long this launch may still take.
        writes: whether this is the rank that writes.
    """

    def __init__(self, config: RunConfig, cur_nimg: int, preview: Preview, stop: StopRequest, writes: bool):
        self.config, self.preview, self.stop, self.writes = config, preview, stop, writes
        self.start = self.cur_nimg = cur_nimg
        self.total = max(cur_nimg, int(config.schedule.total_kimg * 1000))
        self.folder = RunFolder(Path(config.output))
        self.sums: dict[str, Tensor | float] = {}
        self.counts: dict[str, int] = {}
        self.latest: dict[str, float] = {}  # of the overview
        self.judged = ""  # the last judge's verdict
        self.low_diversity_since: int | None = None
        self.logged_at = (time.monotonic(), cur_nimg)
        self.trackers = Trackers()
        self.open = ExitStack()

    def __enter__(self) -> "Monitor":
        self.bar = progress_bar(self.total, "train", initial=self.start, unit_scale=True, disable=not self.writes)
        if self.writes:
            with self.open as opening:  # of what was opened, all is closed if the rest cannot be
                opening.enter_context(logged_to(self.folder.log))
                opening.callback(self.bar.close)
                self.trackers = open_trackers(self.config, self.folder, self.start)
                opening.callback(self.trackers.finish)
                self.open = opening.pop_all()
            begins = f"resumes at {self.start / 1000:.3f} kimg" if self.start else "starts"
            LOG.debug(f"Process {os.getpid()} on {platform.node()} {begins}.")
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None:
            LOG.debug(f"Ended by an error at {self.cur_nimg / 1000:.3f} kimg: {error or type(error).__name__}")
        self.open.close()

    def record(self, cur_nimg: int, statistics: dict[str, Tensor | float]) -> None:
        """Add the statistics of a step, which ended at this clock, to the averages; nothing waits for the device."""
        self.cur_nimg = cur_nimg
        for name, value in statistics.items():
            self.sums[name] = self.sums.get(name, 0) + value
            self.counts[name] = self.counts.get(name, 0) + 1
        self.bar.total = self.horizon()
        self.bar.update(min(cur_nimg, self.bar.total) - self.bar.n)

    def horizon(self) -> int:
        """The clock at which this launch will end: that of the schedule, or sooner where its minutes are over first."""
        if not self.stop.time_used:
            return self.total
        reached = self.start + (self.cur_nimg - self.start) / min(1.0, self.stop.time_used)
        return min(self.total, round(reached))

    def log_scalars(self, stage: Stage, cur_step: int) -> None:
        """Write the averages since the last call and the steps taken so far; skipped steps do not count in averages."""
        now = time.monotonic()
        means = {name: float(total / self.counts[name]) for name, total in self.sums.items()}
        seconds, images = now - self.logged_at[0], self.cur_nimg - self.logged_at[1]
        self.sums, self.counts, self.logged_at = {}, {}, (now, self.cur_nimg)
        if not self.writes:
            return
        overview = {"drift": mean_of(means, "displacement/"), "spread": mean_of(means, "spread/")}
        overview = {name: value for name, value in overview.items() if value is not None}
        overview["images_per_second"] = images / seconds
        self.latest |= overview
        scalars = {tag_of(name): value for name, value in means.items()}
        scalars |= {f"{OVERVIEW}/{name}": value for name, value in overview.items()}
        scalars |= {
            "schedule/resolution": stage.resolution,
            "schedule/step": cur_step,
            "schedule/alpha": stage.alpha,
            "schedule/learning_rate": learning_rate_at(self.cur_nimg, self.config),
            "speed/sec_per_kimg": seconds / max(images, 1) * 1000,
            "memory/peak_host_gib": peak_host_gib(),
        }
        if self.preview.device.type == "cuda":
            scalars["memory/peak_device_gib"] = torch.cuda.max_memory_allocated(self.preview.device) / 2**30
        if "spread" in overview:
            scalars["diversity/alarm"] = float(self.watch_spread(overview["spread"]))
        self.trackers.log(scalars, self.cur_nimg)
        self.say_where(stage, cur_step, means.get("loss", math.nan))

    def say_where(self, stage: Stage, cur_step: int, loss: float) -> None:
        """One line for the log, and its short form behind the bar."""
        fading = f", fading in {stage.alpha:.0%}" if stage.alpha < 1 else ""
        shown = f"drift {self.latest['drift']:.3f}" if "drift" in self.latest else f"loss {loss:.3f}"
        text = f"{stage.resolution}px{fading}, {shown}"
        self.bar.set_postfix_str(text)
        spread = f", spread {self.latest['spread']:.3f}" if "spread" in self.latest else ""
        left = f", {max(0.0, self.stop.minutes_left):.1f} min left" if self.stop.max_minutes is not None else ""
        speed = self.latest["images_per_second"]
        where = f"{self.cur_nimg / 1000:.3f} kimg, step {cur_step}"
        LOG.debug(f"{where}: {text}{spread}, {speed:.1f} images/s{left}")

    def log_judgement(self, report: Mapping[str, Any]) -> None:
        """Write what a judge found, at the present clock."""
        self.trackers.log({f"{OVERVIEW}/face_rate": report["face_rate"], **scalars_of(report)}, self.cur_nimg)
        said = verdict(report)[:2]
        if (words := report.get("words")) and (sentence := steering(words)) not in said:
            said.append(sentence)
        self.judged = " ".join(said)
        LOG.debug(f"{self.cur_nimg / 1000:.3f} kimg: {self.judged}")

    def log_steering(self, words: Mapping[str, Any]) -> None:
        """Write how well words steer, at the present clock."""
        if words:
            self.trackers.log(scalars_of(words), self.cur_nimg)
            LOG.debug(f"{self.cur_nimg / 1000:.3f} kimg: {steering(words)}")

    def watch_spread(self, spread: float) -> bool:
        """Raise an alarm when generated features have been far too alike for long: this is how such training fails."""
        low = spread < ALARM_SPREAD
        since = self.low_diversity_since or self.cur_nimg
        self.low_diversity_since = since if low else None
        alarm = low and self.cur_nimg - since >= ALARM_AFTER_KIMG * 1000
        if alarm:
            LOG.warning(
                f"Diversity has been below {ALARM_SPREAD} of the real images' for {ALARM_AFTER_KIMG} kimg: the "
                "generator may be collapsing to one face. Look at the samples; a lower --optimizer.learning_rate or a "
                "larger --batches.real may help."
            )
        return alarm

    def show_pictures(self, network: Generator) -> None:
        """Samples of a generator, real crops, pyramids and an interpolation, and how different the samples are."""
        pictures, diversity = self.preview.draw(network, stage_at(self.cur_nimg, self.config))
        from_first_rank(lambda: self.write_pictures(pictures, diversity), self.preview.device)

    def write_pictures(self, pictures: Mapping[str, Image], diversity: float) -> None:
        self.latest["diversity"] = diversity
        path = make_output_folder(self.folder.pictures) / f"kimg{self.cur_nimg / 1000:010.3f}.png"
        save_png(pictures["1_generated"], path)
        self.trackers.log({f"{OVERVIEW}/diversity": diversity}, self.cur_nimg)
        self.trackers.show({f"{PICTURES}/{name}": picture for name, picture in pictures.items()}, self.cur_nimg)

    def conclude(self, ending: str) -> None:
        """Say what became of the run, and note what ended this launch."""
        LOG.info(self.judged or self.impression())
        LOG.debug(f"This launch: {ending}.")

    def impression(self) -> str:
        """A verdict from how much the samples differ, where nobody has judged them."""
        resolution, full = stage_at(self.cur_nimg, self.config).resolution, self.config.generator.img_resolution
        found = {name: self.latest[name] for name in ("spread", "diversity") if name in self.latest}
        figures = ", ".join(f"{name} {value:.2f}" for name, value in found.items())
        if min(found.values(), default=1.0) < ALARM_SPREAD:
            said = "Collapsed, or hardly trained: the samples are nearly all alike"
        else:
            said = "Still growing: the samples differ" if resolution < full else "Not judged: the samples differ"
        size = f"{resolution} of {full} pixels" if resolution < full else f"{full} pixels"
        return f"{said} ({figures}; real images have 1; {size}). dinogen evaluate says how good they are."


def mean_of(means: Mapping[str, float], prefix: str) -> float | None:
    values = [value for name, value in means.items() if name.startswith(prefix)]
    return sum(values) / len(values) if values else None


def tag_of(name: str) -> str:
    """Trackers group by what stands before the slash."""
    return {"loss": "loss/total", "gradient_norm": "gradient/norm"}.get(name, name)


def peak_host_gib() -> float:
    """The most memory that this process has held, in GiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
