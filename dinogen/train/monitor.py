"""What a run says of itself: a progress line, TensorBoard scalars, pictures."""

import math
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from dinogen.config import RunConfig
from dinogen.data.loader import load_crops
from dinogen.distributed import from_first_rank
from dinogen.evaluate.metrics import mean_pairwise_distance
from dinogen.files import make_output_folder
from dinogen.images import image_grid, save_png, to_float, to_uint8, viewing_scale
from dinogen.networks import Generator
from dinogen.pictures import last_layer, pyramid_picture
from dinogen.progress import progress_bar
from dinogen.pyramid import Pyramid, PyramidSpec, resize
from dinogen.schedule import Stage, learning_rate_at, stage_of_run
from dinogen.train.run_folder import RunFolder
from dinogen.train.stopping import StopRequest

GRID_COLUMNS = 8
GRID_COUNT = 64
PYRAMID_COUNT = 6  # of real and of generated images
STRIP_ROWS = 4
STRIP_FRAMES = 8
ALARM_SPREAD = 0.3  # mean distance among generated features over that to real ones
ALARM_AFTER_KIMG = 20


class Monitor:
    """Watches a run. On the first rank it writes; the others take part where a forward is a collective.

    Args:
        config: of the run.
        cur_nimg: the clock at which this launch begins.
        look: the teacher, in the precision of training.
        spec: of what it sees.
        stop: knows how long this launch may still take.
        device: where the generator is.
        writes: whether this is the rank that writes.
    """

    def __init__(
        self,
        config: RunConfig,
        cur_nimg: int,
        look: Callable[[Tensor], Pyramid],
        spec: PyramidSpec,
        stop: StopRequest,
        device: torch.device,
        writes: bool,
    ):
        self.config, self.cur_nimg, self.look, self.spec = config, cur_nimg, look, spec
        self.stop, self.device, self.writes = stop, device, writes
        self.folder = RunFolder(Path(config.output))
        self.sums: dict[str, Tensor | float] = {}
        self.counts: dict[str, int] = {}
        self.low_diversity_since: int | None = None
        self.logged_at = (time.monotonic(), cur_nimg)
        self.writer: SummaryWriter | None = None
        self.bar = None
        rng = torch.Generator().manual_seed(config.seed + 1)
        # Checking whole shards for a preview would take minutes on big data; the loader does check what it reads.
        self.crops = load_crops(Path(config.data), GRID_COUNT, verify="size")
        self.z = torch.randn(GRID_COUNT, config.generator.z_dim, generator=rng).to(device)

    def __enter__(self) -> "Monitor":
        if self.writes:
            # What was logged after the checkpoint that we go on from is about to happen again.
            self.writer = SummaryWriter(str(self.folder.tensorboard), purge_step=self.cur_nimg)
            total = int(self.config.schedule.total_kimg * 1000)
            self.bar = progress_bar(total, "train", initial=min(self.cur_nimg, total), unit_scale=True)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.writer is not None:
            with self.forgiving_disk():
                self.writer.close()
            self.bar.close()

    @contextmanager
    def forgiving_disk(self) -> Iterator[None]:
        """TensorBoard may fail to write without taking the run with it."""
        try:
            yield
        except OSError as error:
            self.bar.write(f"TensorBoard's log could not be written ({error.strerror}).", file=sys.stderr)

    def record(self, cur_nimg: int, statistics: dict[str, Tensor | float]) -> None:
        """Add the statistics of a step, which ended at this clock, to the averages; nothing waits for the device."""
        self.cur_nimg = cur_nimg
        for name, value in statistics.items():
            self.sums[name] = self.sums.get(name, 0) + value
            self.counts[name] = self.counts.get(name, 0) + 1
        if self.bar is not None:
            self.bar.update(min(self.cur_nimg, self.bar.total) - self.bar.n)

    def log_scalars(self, stage: Stage) -> None:
        """Write the averages since the last call; a step that was skipped has no part in them."""
        now = time.monotonic()
        means = {name: float(total / self.counts[name]) for name, total in self.sums.items()}
        seconds, images = now - self.logged_at[0], self.cur_nimg - self.logged_at[1]
        self.sums, self.counts, self.logged_at = {}, {}, (now, self.cur_nimg)
        if self.writer is None:
            return
        scalars = {tag_of(name): value for name, value in means.items()}
        scalars |= {
            "schedule/resolution": stage.resolution,
            "schedule/alpha": stage.alpha,
            "schedule/learning_rate": learning_rate_at(self.cur_nimg, self.config),
            "speed/sec_per_kimg": seconds / max(images, 1) * 1000,
            "speed/images_per_second": images / seconds,
            "memory/peak_host_gib": peak_host_gib(),
        }
        if self.device.type == "cuda":
            scalars["memory/peak_device_gib"] = torch.cuda.max_memory_allocated(self.device) / 2**30
        scalars |= self.watch_diversity(means)
        self.write_scalars(scalars)
        drift = [value for name, value in means.items() if name.startswith("displacement/")]
        shown = f"drift {sum(drift) / len(drift):.3f}" if drift else f"loss {means.get('loss', math.nan):.3f}"
        left = self.stop.minutes_left
        ending = f" stops in {left:.1f} min" if left < math.inf else ""
        self.bar.set_postfix_str(f"{stage.resolution}px alpha {stage.alpha:.2f} {shown}{ending}")

    def write_scalars(self, scalars: Mapping[str, float]) -> None:
        """Write on the first rank, at the present clock reading."""
        if self.writer is not None:
            with self.forgiving_disk():
                for tag, value in scalars.items():
                    self.writer.add_scalar(tag, value, self.cur_nimg)

    def watch_diversity(self, means: dict[str, float]) -> dict[str, float]:
        """Raise an alarm when generated features have been far too alike for long: this is how such training fails."""
        spread = [value for name, value in means.items() if name.startswith("spread/")]
        if not spread:
            return {}
        nimg = self.cur_nimg
        low = sum(spread) / len(spread) < ALARM_SPREAD
        self.low_diversity_since = (self.low_diversity_since or nimg) if low else None
        alarm = low and nimg - self.low_diversity_since >= ALARM_AFTER_KIMG * 1000
        if alarm:
            self.bar.write(
                f"Diversity has been below {ALARM_SPREAD} of the real images' for {ALARM_AFTER_KIMG} kimg: the "
                "generator may be collapsing to one face. Look at the samples; a lower --optimizer.learning_rate or a "
                "larger --batches.real may help.",
                file=sys.stderr,
            )
        return {"diversity/alarm": float(alarm)}

    @torch.no_grad()
    def show_pictures(self, network: Generator) -> None:
        """Samples of a generator, real crops, pyramids and an interpolation, and how different the samples are."""
        stage = stage_of_run(self.cur_nimg, self.config)
        samples = torch.cat([network(z, stage.resolution, stage.alpha) for z in self.z.split(16)])
        real = resize(to_float(self.crops.to(self.device)), stage.resolution)
        count = min(PYRAMID_COUNT, len(real))
        shown = torch.cat([real[:count], samples[:count]])
        pyramid = self.look(shown)  # on all ranks: a sharded teacher's forward is a collective
        colours = pyramid_picture(shown, last_layer(pyramid, self.spec), {"real": count, "generated": count})
        from_first_rank(lambda: self.write_pictures(network, stage, samples, real, colours), self.device)

    def write_pictures(self, network: Generator, stage: Stage, samples: Tensor, real: Tensor, pyramids: Image) -> None:
        nimg, scale = self.cur_nimg, viewing_scale(stage.resolution)
        diversity = mean_pairwise_distance(samples.flatten(1)) / mean_pairwise_distance(real.flatten(1))
        grid = image_grid(to_uint8(samples), GRID_COLUMNS, scale)
        save_png(grid, make_output_folder(self.folder.pictures) / f"kimg{nimg / 1000:010.3f}.png")
        with self.forgiving_disk():
            self.writer.add_scalar("diversity/pixels", float(diversity), nimg)
            self.add_image("1_samples", grid)
            self.add_image("2_real", image_grid(to_uint8(real), GRID_COLUMNS, scale))
            self.add_image("3_pyramids", pyramids)
            self.add_image("4_interpolation", image_grid(to_uint8(self.strip(network, stage)), STRIP_FRAMES, scale))
            self.writer.flush()

    def strip(self, network: Generator, stage: Stage) -> Tensor:
        """Rows of straight walks between styles, `[rows · frames, 3, R, R]`."""
        start, end = (network.mapping(z) for z in self.z[: 2 * STRIP_ROWS].chunk(2))
        steps = torch.linspace(0, 1, STRIP_FRAMES, device=start.device)[None, :, None]
        w = start[:, None].lerp(end[:, None], steps).flatten(0, 1)
        return network.synthesis(w, stage.resolution, stage.alpha)

    def add_image(self, tag: str, picture: Image) -> None:
        # One group, because TensorBoard folds all but the first two; numbers, because it sorts.
        self.writer.add_image(f"pictures/{tag}", np.asarray(picture), self.cur_nimg, dataformats="HWC")


def tag_of(name: str) -> str:
    """TensorBoard groups by what stands before the slash."""
    return {"loss": "loss/total", "gradient_norm": "gradient/norm"}.get(name, name)


def peak_host_gib() -> float:
    """The most memory that this process has held, in GiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
