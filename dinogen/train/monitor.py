"""What a run says of itself: a progress line, TensorBoard scalars, pictures."""

import resource
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from dinogen.data.loader import load_crops
from dinogen.errors import DinogenError
from dinogen.evaluate.metrics import mean_pairwise_distance
from dinogen.files import make_output_folder
from dinogen.images import image_grid, save_png, to_float, to_uint8, viewing_scale
from dinogen.progress import progress_bar
from dinogen.schedule import Stage, learning_rate_at
from dinogen.train.pictures import pyramid_picture

if TYPE_CHECKING:
    from dinogen.train.trainer import Trainer

GRID_COLUMNS = 8
GRID_COUNT = 64
PYRAMID_COUNT = 6  # of real and of generated images
STRIP_ROWS = 4
STRIP_FRAMES = 8


class Monitor:
    """Watches a trainer. On the first rank it writes; the others take part where a forward is a collective."""

    def __init__(self, trainer: "Trainer"):
        self.trainer = trainer
        self.sums: dict[str, Tensor] = {}
        self.steps = 0
        self.logged_at = (time.monotonic(), trainer.cur_nimg)
        self.writer: SummaryWriter | None = None
        self.bar = None
        rng = torch.Generator().manual_seed(trainer.config.seed + 1)
        self.z = torch.randn(GRID_COUNT, trainer.config.generator.z_dim, generator=rng).to(trainer.device)

    def __enter__(self) -> "Monitor":
        trainer = self.trainer
        if trainer.is_main:
            # What was logged after the checkpoint that we go on from is about to happen again.
            self.writer = SummaryWriter(str(trainer.folder.tensorboard), purge_step=trainer.cur_nimg)
            total = int(trainer.config.train.total_kimg * 1000)
            self.bar = progress_bar(total, "train", initial=min(trainer.cur_nimg, total), unit_scale=True)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.writer is not None:
            self.writer.close()
            self.bar.close()

    def record(self, statistics: dict[str, Tensor], stage: Stage) -> None:
        """Add one step's statistics to the averages; nothing waits for the device."""
        for name, value in statistics.items():
            self.sums[name] = self.sums.get(name, 0) + value
        self.steps += 1
        if self.bar is not None:
            self.bar.update(min(self.trainer.cur_nimg, self.bar.total) - self.bar.n)

    def log_scalars(self, stage: Stage) -> None:
        """Write the averages since the last call.

        Raises:
            DinogenError: the loss is no longer finite.
        """
        trainer, now = self.trainer, time.monotonic()
        means = {name: (total / self.steps).item() for name, total in self.sums.items()}
        seconds, images = now - self.logged_at[0], trainer.cur_nimg - self.logged_at[1]
        self.sums, self.steps, self.logged_at = {}, 0, (now, trainer.cur_nimg)
        if not all(torch.isfinite(torch.tensor(value)) for value in means.values()):
            broken = ", ".join(name for name, value in means.items() if value != value or abs(value) == float("inf"))
            raise DinogenError(
                f"training broke at {trainer.cur_nimg / 1000:.1f} kimg: {broken} is not finite; run the same command "
                "again to go on from the last checkpoint, with a lower --train.learning_rate"
            )
        if self.writer is None:
            return
        scalars = {tag_of(name): value for name, value in means.items()}
        scalars |= {
            "schedule/resolution": stage.resolution,
            "schedule/alpha": stage.alpha,
            "schedule/learning_rate": learning_rate_at(trainer.cur_nimg, trainer.config.train),
            "speed/sec_per_kimg": seconds / max(images, 1) * 1000,
            "speed/images_per_second": images / seconds,
            "memory/peak_host_gib": peak_host_gib(),
        }
        if trainer.device.type == "cuda":
            scalars["memory/peak_device_gib"] = torch.cuda.max_memory_allocated(trainer.device) / 2**30
        for tag, value in scalars.items():
            self.writer.add_scalar(tag, value, trainer.cur_nimg)
        drift = [value for name, value in means.items() if name.startswith("displacement/")]
        shown = f"drift {sum(drift) / len(drift):.3f}" if drift else f"loss {means['loss']:.3f}"
        self.bar.set_postfix_str(f"{stage.resolution}px alpha {stage.alpha:.2f} {shown}")

    @torch.no_grad()
    def show_pictures(self) -> None:
        """Samples, real crops, pyramids and an interpolation, and how different the samples are."""
        trainer, stage = self.trainer, self.trainer.stage
        network = trainer.G_ema
        samples = torch.cat([network(z, stage.resolution, stage.alpha) for z in self.z.split(16)])
        crops = load_crops(trainer.folder_of_data, GRID_COUNT, stage.resolution)
        real = to_float(crops.to(trainer.device))
        count = min(PYRAMID_COUNT, len(real))
        shown = torch.cat([real[:count], samples[:count]])
        with trainer.accelerator.autocast():
            pyramid = trainer.teacher(shown)  # on all ranks: a sharded teacher's forward is a collective
        if self.writer is None:
            return
        step = trainer.cur_nimg
        diversity = mean_pairwise_distance(samples.flatten(1)) / mean_pairwise_distance(real.flatten(1))
        self.writer.add_scalar("diversity/pixels", float(diversity), step)
        scale = viewing_scale(stage.resolution)
        grid = image_grid(to_uint8(samples), GRID_COLUMNS, scale)
        path = make_output_folder(trainer.folder.pictures) / f"kimg{step / 1000:010.3f}.png"
        save_png(grid, path)
        self.add_image("samples", grid)
        self.add_image("real", image_grid(crops, GRID_COLUMNS, scale))
        self.writer.add_image("pyramids/real_left_generated_right", pyramid_picture(shown, pyramid, trainer.teacher.spec, count), step)
        self.add_image("interpolation", image_grid(to_uint8(self.strip(stage)), STRIP_FRAMES, scale))
        self.writer.flush()

    def strip(self, stage: Stage) -> Tensor:
        """Rows of straight walks between styles, `[rows · frames, 3, R, R]`."""
        network = self.trainer.G_ema
        start, end = (network.mapping(z) for z in self.z[: 2 * STRIP_ROWS].chunk(2))
        steps = torch.linspace(0, 1, STRIP_FRAMES, device=start.device)[None, :, None]
        w = start[:, None].lerp(end[:, None], steps).flatten(0, 1)
        return network.synthesis(w, stage.resolution, stage.alpha)

    def add_image(self, tag: str, picture: Image) -> None:
        self.writer.add_image(tag, np.asarray(picture), self.trainer.cur_nimg, dataformats="HWC")


def tag_of(name: str) -> str:
    """TensorBoard groups by what stands before the slash."""
    return {"loss": "loss/total", "gradient_norm": "gradient/norm"}.get(name, name)


def peak_host_gib() -> float:
    """The most memory that this process has held, in GiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
